"""Texts that tokenizers find difficult, made from a seed."""

import random
import unicodedata

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]

LATIN = "The quick brown fox, naïve café! İstanbul Straße ŒUVRE Ångström Việt Nam ǅ ﬁ don't"
SCRIPTS = [
    LATIN, "Съешь же ещё этих мягких французских булок, Йод", "Ο Σίσυφος ΣΊΣΥΦΟΣ ἀρχὴ ᾳ Ὠ",
    "שָׁלוֹם עֲלֵיכֶם", "السَّلَامُ عَلَيْكُمْ ﷺ ٣٤", "हिन्दी में क्षत्रिय ज़रूर",
    "বাংলা কো ৌ", "தமிழ் கொ கௌ",
    "తెలుగు ై", "ಕನ್ನಡ ೀ ೊ ೋ", "മലയാളം ൊ ോ", "සිංහල ෝ ේ", "ภาษาไทย กำ", "ພາສາລາວ", "བོད་ཡིག གྷ",
    "မြန်မာ ဦ", "ქართული ႠႡ ᲐᲑ", "አማርኛ", "한국어 각 힣 ᄀᄀᆨ", "日本語 がぎぐ ガ ﾊﾟ 々", "中文字符，。 豈更車 丽", "ᏣᎳᎩ Ꭰꭰ",
    "𝔘𝔫𝔦 𝐀 ℵ Å K Ω", "𐐀𐐨 𞤀𞤢", "ᬆ ᬒ ᭄", "𑄮 𑍋 𑒼 𑖺", "𝅗𝅥 𝅘𝅥𝅮 𝆺𝅥𝅮", "①②③ ½ ² ﷼ €", "ǰ ΐ ẞ ß ŉ",
    "e-mail: a_b@c.de #1 $5 50% (x) [y] {z} <w> ^~`|\\/", "don't can't it's “quoted” ‘so’ – — …",
]
EMOJI = "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽 ❤️ 1️⃣ 🧑🏿‍🚀 ☺︎"
SPACES = " \t\n\r\x0b\x0c\x1c\x85\xa0\u1680\u2000\u2001\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"
CONTROLS = "\0\x01\x1b\x7f\x80\x9f\xad\u200c\u200d\u200e\u202e\u2060\u2066\ufff9\ufffd\U000e0001"
PRIVATE = "\ue000\uf8ff\U000f0000\U00100000\U0010fffd"
UNASSIGNED = ("\u0378\u0870\u0cdd\u1c8a\u2fe0\ua7cb\ufdd0\uffff\U00011f00\U0001e030\U0002ebf0"
              "\U000e1000")
MARKS = [c for c in CODE_POINTS
         if unicodedata.combining(chr(c)) or unicodedata.category(chr(c))[0] == "M"]
# Marks that take space and have a combining class, and newer ones: the package does not strip them.
KEPT_MARKS = [0x8D4, 0x1B44, 0x1BF2, 0x302E, 0x302F, 0xA953, 0x111C0, 0x11446, 0x1D165, 0x1D166,
              0x1D16D, 0x1D16E, 0x1DFB, 0x1E000, 0x1E944, 0x1E94A]
STRUCTURE = ["[MASK]", "[CLS]", "[SEP]", "[UNK]", "[PAD]", "[cls]", "[Mask]", "[ MASK ]", "[", "]",
             "##", "##ing", "MASK"]


def any_character(rng):
    return chr(rng.choice(CODE_POINTS) if rng.random() < 0.5 else rng.choice(CODE_POINTS[:0x3000]))


def word_of_script(rng):
    text = rng.choice(SCRIPTS)
    start = rng.randrange(len(text))
    return text[start:start + rng.randint(1, 12)]


def marked_letters(rng):
    pool = rng.choice([MARKS, KEPT_MARKS, MARKS + KEPT_MARKS])
    letters = []
    for _ in range(rng.randint(1, 4)):
        letters.append(rng.choice("aeAEoÅéが각กक\U0001d157中1"))
        letters += (chr(rng.choice(pool)) for _ in range(rng.randint(0, 8)))
    return "".join(letters)


def bytes_made_valid(rng):
    return rng.randbytes(rng.randint(1, 24)).decode("utf-8", rng.choice(["replace", "ignore"]))


PIECES = [
    (6, word_of_script),
    (3, lambda rng: rng.choice(LATIN.split()) + rng.choice(["", "ing", "s", "ness", "-like"])),
    (3, marked_letters),
    (2, lambda rng: "".join(any_character(rng) for _ in range(rng.randint(1, 6)))),
    (2, lambda rng: rng.choice(STRUCTURE)),
    (1, lambda rng: "".join(rng.choice(EMOJI) for _ in range(rng.randint(1, 8)))),
    (1, lambda rng: rng.choice(CONTROLS + PRIVATE + UNASSIGNED)),
    (1, bytes_made_valid),
    (0.1, lambda rng: rng.choice(["a", "ab", "é", "中", "각", "x\u0301"]) * rng.randint(20, 210)),
]


def make_texts(count, seed):
    """Texts of one to a dozen pieces, joined by nothing, a blank or another space."""
    rng = random.Random(seed)
    weights = [weight for weight, _ in PIECES]
    makers = [maker for _, maker in PIECES]
    texts = []
    for _ in range(count):
        parts = []
        for maker in rng.choices(makers, weights, k=rng.randint(1, 12)):
            parts.append(maker(rng))
            parts.append(rng.choice(["", " ", " ", rng.choice(SPACES), rng.choice(CONTROLS)]))
        texts.append("".join(parts))
    return texts
