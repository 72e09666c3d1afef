"""How the offline painter paints: from the words of a prompt to a card.

`scene` reads the prompt, `easel` decides what is painted in which order, the other modules hold one
kind of brush work each. A layer is a function of a canvas, a scene and a random source, and nothing
else, so that a card depends on its prompt and its seed alone.
"""
