"""The 200 texts of the golden vectors. Their order and bytes are part of the files that
make_golden.py writes, so a change here means to make those anew."""

LONG = (
    "The quick brown fox jumps over the lazy dog while seven wizards carefully measure how large "
    "London is and what people there think of rain, trains and the price of bread. "
)

SCRIPTS = [
    "Привет, мир! Как дела сегодня?",
    "Γειά σου Κόσμε, τι κάνεις;",
    "שלום עולם, מה שלומך היום?",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "नमस्ते दुनिया, आप कैसे हैं?",
    "হ্যালো বিশ্ব, কেমন আছেন?",
    "ਸਤ ਸ੍ਰੀ ਅਕਾਲ ਦੁਨੀਆ",
    "નમસ્તે વિશ્વ",
    "வணக்கம் உலகம், எப்படி இருக்கிறீர்கள்?",
    "హలో ప్రపంచం",
    "ಹಲೋ ವರ್ಲ್ಡ್",
    "ഹലോ വേൾഡ്",
    "ආයුබෝවන් ලෝකය",
    "สวัสดีชาวโลก คุณเป็นอย่างไรบ้าง",
    "ສະບາຍດີຊາວໂລກ",
    "မင်္ဂလာပါ ကမ္ဘာ",
    "សួស្តី​ពិភពលោក",
    "བོད་སྐད་ཀྱི་ཡི་གེ",
    "გამარჯობა მსოფლიო",
    "Բարեւ աշխարհ, ինչպե՞ս ես",
    "ሰላም ዓለም",
    "你好,世界。今天天气怎么样?",
    "繁體中文的句子,與簡體不同。",
    "こんにちは世界。お元気ですか?",
    "カタカナとひらがなと漢字",
    "ハンカクカタカナ",
    "안녕하세요 세계, 오늘 어때요?",
    "한글 자모 분해",
    "Xin chào thế giới, hôm nay bạn thế nào?",
    "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "ᚠᚢᚦᚨᚱᚲ runes",
    "ⲁⲃⲅⲇ Coptic",
    "ߒߞߏ N'Ko",
    "ᠮᠣᠩᠭᠣᠯ ᠪᠢᠴᠢᠭ",
    "𐌰𐌱𐌲 Gothic",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒎𝒂𝒕𝒉",
    "ꦲꦏ꧀ꦱꦫ Javanese",
    "𠀀𠀁 rare ideographs 㐀㐁",
]

MARKS = [
    "café naïve résumé Ångström",
    "cafe\u0301 nai\u0308ve re\u0301sume\u0301",
    "e\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308 stacked",
    "q\u0323\u0307 q\u0307\u0323 order",
    "İstanbul'da ılık bir gün, ISPARTA",
    "Straße STRASSE ẞ ß",
    "ﬁnal ﬂow ﬀ ligatures",
    "ΌΣΟΣ όσος final sigma",
    "Ⅷ ⅷ ② ½ ²³ №",
    "ＦＵＬＬＷＩＤＴＨ　text",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘",
    "\u1EA4\u1EA6 \u0041\u0302\u0301",
]

EMOJI = [
    "😀 happy",
    "👨‍👩‍👧‍👦 family with joiners",
    "👍🏽 skin tone",
    "🇩🇪🇫🇷 flags",
    "❤️ vs ❤",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿 tag sequence",
    "🫠🫨🪿 newer emoji",
    "1️⃣ keycap",
    "text😀without😀spaces",
]

CONTROLS = [
    "tab\there",
    "line\nbreak\r\nand carriage\rreturn",
    "nul\x00inside",
    "bell\x07 escape\x1b[31m delete\x7f",
    "zero\u200bwidth\u200cjoin\u200ders",
    "soft\u00adhyphen",
    "no\u00a0break\u202fspaces\u3000wide",
    "\ufeffbyte order mark",
    "right-to-left \u202eoverride\u202c",
    "line\u2028para\u2029graph separators",
    "replacement \ufffd character",
    "private \ue000\uf8ff use \U000f0000",
    "unassigned \u0378 \U0001fbfa \U000e0fff",
    "noncharacters \ufdd0 \uffff \U0010ffff",
    "interlinear \ufff9annotation\ufffa marks\ufffb",
    "c1 \x80\x9f controls",
    "vertical\x0btab form\x0cfeed",
    " leading and trailing   ",
]

SPECIAL = [
    "[CLS]",
    "[SEP] in the middle [SEP]",
    "[MASK] me [UNK] please [PAD]",
    "[cls] lower case",
    "x[MASK]y",
    "##ing ##s",
    "[ CLS ]",
]

SHORT = ["", " ", "a", "I", "?", "0", "é", "中", "😀", "\x00", "\u0301", "...", "!?", "#", "@", "'",
         '"', "-"]

PUNCTUATION = [
    "Hello, world!",
    "don't can't won't it's o'clock",
    "state-of-the-art e-mail co-operate",
    "a_b_c snake_case camelCase PascalCase",
    "C++ C# F# .NET node.js",
    "user@example.com https://example.com/path?query=1&b=2#fragment",
    "$100 €50 £30 ¥1000 ₹500 ₿1",
    "1,234,567.89 3.14159 1e-10 0xDEADBEEF",
    "“quotes” ‘single’ «guillemets» „low“",
    "em—dash en–dash hyphen-minus minus−sign",
    "ellipsis… three... dots",
    "math ∑∏∫√∞ ≤≥≠ ≈ ∈ ∀∃",
    "arrows → ← ↑ ↓ ⇒",
    "box ┌─┐│ │└─┘ blocks █▓▒░",
    "(parentheses) [brackets] {braces} <angles>",
    "100% of 50‰",
    "~`!@#$%^&*()_+-={}|[]\\:\";'<>?,./",
    "2024-01-31T23:59:59Z",
]

SENTENCES = [
    "How many people live in London?",
    "Around 9 Million people live in London",
    "London is known for its financial district",
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "A man is riding a horse.",
    "A woman is playing violin.",
    "Two men pushed carts through the woods.",
    "A monkey is playing drums.",
    "A cheetah is running behind its prey.",
    "The model is replaced while it serves, and not one request fails.",
    "Embeddings of two models must never be compared.",
    "SELECT id, name FROM users WHERE created_at > NOW() - INTERVAL '7 days' ORDER BY id;",
    "def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "int main(int argc, char **argv) { return printf(\"%d\\n\", argc); }",
    "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\": \"b\"}}",
    "<html><body><p class=\"x\">Paragraph &amp; entity</p></body></html>",
    "ERROR 2024-05-01 12:00:00 worker 7: connection reset by peer (errno 104)",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "Le vif renard brun saute par-dessus le chien paresseux.",
    "El veloz murciélago hindú comía feliz cardillo y kiwi.",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Árvíztűrő tükörfúrógép",
    "Kæmi ný öxi hér, ykist þjófum nú bæði víl og ádrepa.",
    "Pijamalı hasta yağız şoföre çabucak güvendi.",
    "Jörð, haf og himinn: þrjú orð.",
    "Zażółć gęślą jaźń",
    "Høj bly gom vandt fræk sexquiz på wc",
    "THE QUICK BROWN FOX IN CAPITALS",
    "the same in mixed CaSe AnD sPaCiNg",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "Buffalo buffalo Buffalo buffalo buffalo buffalo Buffalo buffalo.",
    "the the the the the the the the the the the the the the the the",
    "What is the capital of France? Paris. And of Germany? Berlin.",
    "To be, or not to be, that is the question.",
    "It was the best of times, it was the worst of times.",
]


def texts():
    """Returns the list; lengths rise in steps up to far beyond the longest input."""
    found = SHORT + SENTENCES + PUNCTUATION + SPECIAL + CONTROLS + EMOJI + MARKS + SCRIPTS
    found += ["a" * n for n in (10, 99, 100, 101, 200)]
    found += ["中" * n for n in (50, 300)]
    found += ["🦊" * 20, "x " * 300, "\u0301" * 400, "," * 500]
    words = (LONG * 12).split()
    lengths = [2, 3, 5, 7, 8, 11, 14, 15, 16, 17, 22, 27, 31, 32, 33, 47, 48, 63, 64, 65, 95, 96,
               127, 128, 129, 160, 191, 220, 240, 260, 300]
    found += [" ".join(words[i : i + n]) for i, n in enumerate(lengths)]
    assert len(found) == 200 and len(set(found)) == 200
    return found
