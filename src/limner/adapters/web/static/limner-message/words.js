/** What the element says, for pages in other languages. */

const images = (count) => (count === 1 ? "image" : "images");

/** Everything the element says. A page in another language replaces what it wants: `words.cancel = "…"`. */
export const words = {
  generating: (ready, total) => `Generating ${ready}/${total} ${images(total)}…`,
  regenerating: (ready, total) => `Regenerating ${ready}/${total}…`,
  inserting: "Putting the images in…",
  failedCount: (count) => `${count} failed`,
  allReady: (count) => (count === 1 ? "The image is ready." : `All ${count} images are ready.`),
  someReady: (ready, failed) => `${ready} ${images(ready)} ready, ${failed} failed.`,
  noneReady: (failed) => (failed === 1 ? "The image failed." : `All ${failed} images failed.`),
  announceStart: (total) => `Generating ${total} ${images(total)}.`,
  announceAgain: (total) => `Regenerating ${total} ${images(total)}.`,
  announceReady: (ready, total) => `${ready} of ${total} ${images(total)} ready.`,
  cancelled: "Cancelled.",
  brokenOff: "The text has broken off.",
  notPlaced: (count) => (count === 1 ? "1 finished image was not placed." : `${count} finished images were not placed.`),
  sessionFailed: "The images could not be put in.",
  cancel: "Cancel",
  cancelling: "Cancelling…",
  panel: "Progress of the images",
  queued: "Waiting",
  asked: "Queued",
  generatingOne: "Painting",
  waiting: "Trying again",
  completed: "Ready",
  percent: (value) => `${value}%`,
  preparing: (prompt) => `Image in preparation: ${prompt}`,
  noImage: (prompt) => `No image: ${prompt}`,
  redo: "New image",
  redoHint: "Press to make a new image.",
  redoBusy: "A new image is being made.",
  redoLater: "A new image can be made once the message is finished.",
  retry: "Try again",
  retryLater: "Possible once the other images are done.",
  imageFailed: "The image could not be made.",
  redoFailed: "No new image could be made.",
  notLoaded: "The image could not be loaded.",
  thoughts: "Thoughts",
  thinking: "Thinking…",
  offline: "The connection is lost. Trying again…",
  absent: (address) => `At ${address} there is no Limner app.`,
  refusedStream: "This message cannot be followed from here.",
  refused: "That is not allowed from here.",
  unreachable: "The server could not be reached.",
  unavailable: "The server cannot do that right now.",
};

/** A message of the server's, begun and ended as a sentence. */
export const asSentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".") : "");
