"""Texts for the models of make_tiny.py, whose vocabulary is the Latin letters and a few words."""

TINY_TEXTS = [
    "",
    "a",
    "the model",
    "the quick brown fox",
    "query document passage",
    "moult serves the model",
    "one two three four five",
    "caf\u00e9 na\u00efve",
    "UPPER lower MiXeD",
    "unknown \u4e2d\u6587 signs \U0001F600",
    "x" * 120,
    "words, with. punctuation! and? more: of; it",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "the the the the the the the the the the the the the the the the the the the the",
    "model of the fox and the document of the passage",
    " spaces   around ",
]
