/** Small things to do with elements. */

/** An element with its properties (or attributes, for what is no property) and children. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

const ICONS = {
  redo: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
  alert: "M12 8v5M12 16.5v.5M10.4 3.9 2.6 17.5A1.8 1.8 0 0 0 4.2 20h15.6a1.8 1.8 0 0 0 1.6-2.5L13.6 3.9a1.8 1.8 0 0 0-3.2 0Z",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 2-2 5 5M15.5 9.5h.01",
  check: "m5 12.5 4.5 4.5L19 7.5",
};

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  for (const [key, value] of [["viewBox", "0 0 24 24"], ["class", "icon"], ["aria-hidden", "true"]]) svg.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export const prefersStillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
