"""Prompts in many scripts, and ones that no person writes: always the same for a seed."""

from __future__ import annotations

import random

SCRIPTS = {
    "latin": [(0x61, 0x7A), (0x41, 0x5A), (0xC0, 0x24F), (0x1E00, 0x1EFF)],
    "greek": [(0x370, 0x3FF), (0x1F00, 0x1FFF)],
    "cyrillic": [(0x400, 0x52F)],
    "right to left": [(0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x77F), (0xFB1D, 0xFDFF), (0xFE70, 0xFEFF)],
    "indic": [(0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xD7F)],
    "south-east asian": [(0xE00, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F), (0x1780, 0x17FF)],
    "han": [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF)],
    "kana and hangul": [(0x3040, 0x30FF), (0xAC00, 0xD7A3), (0x1100, 0x11FF), (0x3130, 0x318F), (0xFF00, 0xFFEF)],
    "african": [(0x1200, 0x139F), (0x2D30, 0x2DDF), (0x7C0, 0x7FF), (0x1E900, 0x1E95F)],
    "american": [(0x13A0, 0x13FF), (0x1400, 0x167F)],
    "marks": [(0x300, 0x36F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE00, 0xFE2F)],
    "letterlike": [(0x2100, 0x218F), (0x2460, 0x24FF), (0x3200, 0x33FF), (0x1D400, 0x1D7FF), (0xFB00, 0xFB06)],
    "signs": [(0x21, 0x7E), (0xA0, 0xBF), (0x2000, 0x206F), (0x2190, 0x23FF), (0x3000, 0x303F)],
    "emoji": [(0x1F300, 0x1F6FF), (0x1F900, 0x1FAFF), (0x2600, 0x27BF), (0x1F1E6, 0x1F1FF), (0x1F3FB, 0x1F3FF)],
    "control": [(0x0, 0x1F), (0x7F, 0x9F), (0xFFF0, 0xFFFF), (0xE000, 0xE0FF), (0xE0000, 0xE007F)],
    "anything": [(0x20, 0xD7FF), (0xE000, 0x10FFFF)],
    "anything named": [(0x20, 0x33FF), (0xA000, 0xABFF), (0x10000, 0x1FAFF)],
}
WORDS = (
    "a red apple on blue background photograph of the Eiffel Tower at night, 35mm film grain; isn't can't we'll",
    "THEY'RE I'd he'S İstanbul straße ŒUVRE naïve café e\u0301te\u0301 Ångström A\u030angstro\u0308m ΣΊΣΥΦΟΣ ςς ﬁne",
    "ﷺ ㎏ ½ \uff11\uff12 Ⅷ ③ 3.14 1e9 10,000 東京タワー 서울 ภาษาไทย हिन्दी বাংলা العربية עברית русский",
    "👩\u200d👩\u200d👧 👍🏽 🇫🇷 ❤\ufe0f",
    "[MASK] [CLS] [UNK] <unk> </s> <s> <|endoftext|> <|startoftext|> <pad> ##ing ▁ ▁▁a </w>",
    "Ġ antidisestablishmentarianism",
    "x" * 120,
)
SPACES = (
    *(" " * 3), *"\n\t\u00a0\u3000\u2009\u200b\u200d-'\"\u0085", "", "  ", "\r\n", ", ", "... "
)  # fmt: skip


def prompts(count: int, seed: int = 0) -> list[str]:
    """Texts of up to about 200 characters, of one script, of several, or of words of many languages."""
    rng = random.Random(seed)
    return [_prompt(rng) for _ in range(count)]


def _prompt(rng: random.Random) -> str:
    kind = rng.randrange(4)
    scripts = [rng.choice(list(SCRIPTS)) for _ in range(rng.randint(1, 3))]
    parts = []
    for _ in range(rng.randint(1, 24)):
        if kind == 0 or (kind == 1 and rng.random() < 0.5):
            word = rng.choice(rng.choice(WORDS).split(" "))
        else:
            ranges = SCRIPTS[rng.choice(scripts)]
            word = "".join(_character(rng, ranges) for _ in range(rng.randint(1, 8)))
            if rng.random() < 0.2:
                word += _character(rng, SCRIPTS["marks"])
        parts += [word, rng.choice(SPACES)]
    return "".join(parts)


def _character(rng: random.Random, ranges: list[tuple[int, int]]) -> str:
    while 0xD800 <= (code := rng.randint(*rng.choice(ranges))) < 0xE000:
        pass
    return chr(code)
