"""What the reference is asked, and every backend after it: short and long, plain and odd."""

from __future__ import annotations

import itertools

SENTENCES = (
    "Yes.",
    "Where is the nearest pharmacy?",
    "The train to Lisbon leaves from platform nine at 17:42.",
    "A woman in a red coat is walking two dogs along the river.",
    "Two dogs are being walked along the river by a woman in red.",
    "Nobody was walking along the river that evening.",
    "Shares of the company fell 7.3% after it cut its forecast for the third quarter.",
    "SELECT name, total FROM orders WHERE total > 100 ORDER BY total DESC;",
    "def area(radius):\n    return 3.14159 * radius ** 2",
    "The mitochondrion turns nutrients into the energy that a cell lives on.",
    "Add two cups of flour, a pinch of salt and one egg, then stir until smooth.",
    "I have never been so disappointed by a hotel: cold water, thin walls, rude staff!",
    "I loved this hotel: hot showers, quiet rooms and the kindest staff.",
    "How do I reset my password if I no longer have access to my e-mail?",
    "The tenant shall give written notice of not less than sixty days before leaving.",
    "Il pleut depuis trois jours et la route vers le village est coupée.",
    "Der Fahrstuhl ist außer Betrieb, bitte benutzen Sie die Treppe.",
    "El equipo ganó el partido en el último minuto con un gol de cabeza.",
    "会議は来週の火曜日に延期されました。",
    "Поезд опоздал на сорок минут из-за снега.",
    "lol that was sooo funny 😂😂 cant stop laughing",
    "https://example.org/articles/2024/03/why-bridges-hum?ref=home#comments",
    "ERROR 503 upstream connect error or disconnect/reset before headers, retry after 30 s",
    "Light from the galaxy set out before there were mammals; what reaches the telescope tonight"
    " is a few thousand photons, spread over hours, which the camera counts one by one. From their"
    " colours astronomers work out how fast the stars move, how old they are, and how much of the"
    " galaxy's mass is something that gives no light at all.",
)
PAIRS = tuple(itertools.pairwise(SENTENCES[:14]))

ODD = (
    "",
    "a",
    "HELLO Hello hello",
    "  two  spaces\tand a tab\n",
    "caf\u00e9 cafe\u0301 \ufb01 \u2163 \u00bd \uff21\uff22\uff23",  # what a normalizer changes
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \u200bzero width",
    " ".join(["one two three four five six seven eight nine ten"] * 80),  # over many a limit
)
ODD_PAIRS = (("", "an empty text and another"), (ODD[-1], "short"))
