"""The words that the painter understands."""

from __future__ import annotations

WORDS = {
    "night": (
        "night midnight moon moonlit moonlight stars star starry starlit dark darkness nocturnal lantern "
        "lanterns owl aurora borealis"
    ),
    "dusk": "dusk sunset evening twilight sundown vespers crimson",
    "dawn": "dawn sunrise morning daybreak pink rose",
    "day": "day noon sunny bright summer spring blue",
    "storm": "storm stormy thunder thunderstorm lightning tempest gale gloomy grey gray",
    "magic": (
        "magic magical fairy enchanted dream dreamy spell wizard witch unicorn crystal purple violet "
        "mystic neon"
    ),
    "fire": (
        "fire burning flames flame blaze inferno lava volcano ember embers hell forge ash ashes battle war"
    ),
    "snow": "snow snowy winter ice icy frozen frost frosty arctic glacier blizzard polar",
    "desert": "desert dune dunes sand sands sahara camel pyramid oasis canyon",
    "autumn": "autumn fall october harvest pumpkin leaves vineyard",
    "sea": (
        "sea ocean coast shore beach bay harbour harbor waves wave island sail ship boat sailing "
        "lighthouse whale pirate mermaid fisherman"
    ),
    "lake": "lake river pond stream fjord lagoon",
    "mountains": "mountain mountains peak peaks alps alpine summit cliff cliffs valley",
    "forest": "forest woods wood trees pine pines fir firs grove jungle deer stag wolf wolves fox bear",
    "city": (
        "city town skyline street streets tower towers skyscraper skyscrapers downtown metropolis "
        "rooftop rooftops"
    ),
    "castle": "castle fortress palace citadel keep kingdom throne",
    "village": "village cottage cottages house houses home cabin hut inn tavern farm barn mill hamlet",
    "lighthouse": "lighthouse beacon",
    "boat": "boat ship sail sailing sailboat galleon vessel fisherman pirate ferry schooner",
    "dragon": "dragon dragons wyvern drake",
    "birds": (
        "bird birds gull gulls seagull seagulls crow crows raven ravens geese swan swans flock eagle "
        "sparrow owl"
    ),
    "balloon": "balloon balloons airship zeppelin",
    "figure": (
        "man woman girl boy person wanderer traveller traveler wizard witch knight monk priest child "
        "hero heroine king queen prince princess warrior hunter pilgrim stranger figure soldier limner "
        "scribe painter ranger rider old portrait she he captain keeper"
    ),
    "cat": "cat cats kitten kittens",
    "tree": "oak willow apple blossom cherry tree orchard",
    "rain": "rain rainy raining storm downpour drizzle",
    "snowfall": "snow snowy snowing snowfall blizzard winter",
    "embers": "fire flames burning ember embers sparks lava volcano forge dragon battle",
    "fireflies": "magic magical fairy enchanted firefly fireflies fairies lights dream",
    "aurora": "aurora borealis northern lights polar",
    "lightning": "lightning thunder thunderstorm",
    "mist": "mist misty fog foggy haze smoke ghost ghosts mysterious haunted",
    "flowers": "flower flowers meadow garden poppies poppy rose roses blossom lavender field fields",
}
"""What a word asks for. A word may ask for several things; plurals that only add an s are understood too."""
