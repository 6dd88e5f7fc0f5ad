"""Replies in another language than their prompt, where that is clear; without a model, by scripts and common words.

Two tests. Scripts: nearly all letters of the prompt are of one script and most of the reply's of another. Common words:
prompt and reply are both Latin script, and in each one language's commonest words are frequent and far ahead of any
other's; known are those of `COMMON_WORDS`. In doubt nothing is dropped: a prompt that speaks of a language, a
script or translating is never judged, nor one that may ("into Inuktitut"); nor is a text with few words, nor a Latin
reply that is no prose (code, a formula, a name).

What it cannot see: other languages in Latin script; languages that share a script otherwise (Russian and Ukrainian,
Arabic and Persian, Chinese and Japanese); the wrong language in part of a reply, or in a short one.
Start reading at: `off_language`.
"""

import re
from collections import Counter
from collections.abc import Sequence

from limbeck.records import Message, Pair
from limbeck.screening.echoes import REJECTED_AS_IT_CAME

COMMON_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "English": "the of and to in is that it for was with as on be by this are from or have an they which you had "
        "not but what all were when we there can your their has will would if about them then these some could into",
        "German": "der die das und ist nicht ein eine einen einem einer zu den dem des mit von auf für im sich auch es "
        "wird sind als an werden aus bei nach wie durch oder haben kann dass wenn sie ich wir man noch nur über vor",
        "French": "le la les de des du et est un une dans que qui pour pas sur au aux ce cette il elle vous nous avec "
        "par plus sont être ou mais comme son sa ses leur leurs je ne se en votre peut ont été entre fait à",
        "Spanish": "el la los las de del y que en es un una por con para se no su lo al más como o pero sus está son "
        "este esta si entre cuando muy sin sobre ser tiene también hay puede todo desde nos le les ha a",
        "Portuguese": "o a os as de do da dos das e que em é um uma por com para se não mais como mas seu sua ao à "
        "pelo pela ou são está você quando muito sem sobre ser tem também há pode nos na no isso ele ela foi",
        "Italian": "il lo la i gli le di del della dei delle e che in è un una per con non si da come più ma anche nel "
        "nella sono al alla questo questa o dal dalla essere può suo sua ha ci quando tra cui molto se",
        "Dutch": "de het een en van is in dat op te zijn met voor niet aan er om ook als bij of naar door maar uit dan "
        "kan wordt deze je hebben heeft worden meer over tot nog wat zich die ze we was hun",
        "Polish": "i w na z do nie się to jest że o jak ale po co za od przez dla są być może lub tym jego czy oraz "
        "które który która ich tego także",
        "Swedish": "och att det i en som på är av för med den till inte ett om har de kan var men vi du eller från "
        "så när sig ska man också detta",
        "Turkish": "bir ve bu için ile de da çok olarak daha olan en gibi kadar ne var ya sonra değil ancak veya "
        "olduğu şey mi her",
        "Indonesian": "yang dan di untuk dengan dari ini itu pada adalah tidak dalam akan ke juga dapat atau oleh saya "
        "anda bisa ada sebagai karena mereka lebih kita",
    }.items()
}
_LANGUAGES_OF = {
    word: tuple(name for name, common in COMMON_WORDS.items() if word in common)
    for word in frozenset[str]().union(*COMMON_WORDS.values())
}
_SCRIPTS = {
    name: re.compile(f"[{letters}]")
    for name, letters in {
        "Latin": "A-Za-z\u00aa-\u024f\u1e00-\u1eff",
        "Greek": "\u0370-\u03ff\u1f00-\u1fff",
        "Cyrillic": "\u0400-\u052f",
        "Hebrew": "\u0590-\u05ff",
        "Arabic": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
        "Devanagari": "\u0900-\u097f",
        "Bengali": "\u0980-\u09ff",
        "Tamil": "\u0b80-\u0bff",
        "Thai": "\u0e00-\u0e7f",
        "Hangul": "\u1100-\u11ff\uac00-\ud7af",
        "Han": "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff",  # Chinese, and Japanese with its kana
    }.items()
}
# A prompt that names a language, or translating, may want any: whatever follows is not judged.
_NAMES_A_LANGUAGE = re.compile(
    r"translat|langu|lingu|english|german|french|spanish|portugu|italian|dutch|polish|swedish|turkish|indonesian"
    r"|russian|ukrain|greek|hebrew|arabic|hindi|bengali|tamil|thai|korean|chinese|mandarin|cantonese|japanese|latin"
    r"|persian|farsi|urdu|vietnam|norweg|danish|finnish|czech|hungar|roman(?:ia|ce)|accent|dialect|lyrics|foreign"
    # The other languages of the scripts above; stems, since many languages name them alike.
    r"|bulgar|serb|maced|belarus|byeloruss|montenegr|kazakh|kyrgyz|mongol|tajik|tatar|chuvash|bashkir|chechen|ossetic"
    r"|sanskrit|marathi|nepal|konkani|maithili|bhojpuri|yiddish|ladino|aramaic|pashto|\bdari\b|kurd|uyghur|uighur"
    r"|sindhi|punjabi|panjabi|balochi|kashmiri|assam|manipuri|\blao\b|okinawan|hokkien|hakka|taiwan|wenyan|classical"
    r"|slovak|sloven|croat|bosn|alban|eston|latvia|lithuan|iceland|irish|gaelic|welsh|basque|catal[ao]n|galici|malay"
    r"|tagalog|filipin|swahili|zulu|hausa|yoruba|afrikaans|esperanto|somali|azeri|azerb|uzbek|turkmen|maltese"
    # Scripts, and writing one in another.
    r"|cyrillic|devanagari|nagari|hangul|hangeul|\bhan(?:zi|ja)\b|kanji|\bkana\b|hiragana|katakana|pinyin|romaji"
    r"|romani[sz]|translit|alphabet|abjad|syllabar|unicode|calligraph"
    r"|übersetz|sprache|deutsch|englisch|französ|spanisch|tradui|traduc|traduz|tradur|franç|anglais|anglaise|español"
    r"|inglés|inglês|inglese|idioma|lengua|língua|vertaa?l|engels|tłumacz|angielsk|översätt|engelska|çevir|ingilizce"
    r"|terjemah|inggris|перев|перекла|язык|англ|русск|翻[译譯訳]|[英中汉漢国國日法德韩韓俄外][文语語]|日本語|ترجم|इंग्लिश|अनुवाद|번역|영어|한국어|แปล|ภาษา|μετάφρα|תרגמ",
    re.IGNORECASE,
)
# A name after these may be of a language or a people that no list knows ("into Inuktitut"); most are places.
_INTO_SOMETHING = re.compile(r"\b(?:in|into|to) [A-Z]\w+")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")
_READ_CHARACTERS = 4_000  # of each text; a language shows early
_PROMPT_SHARE, _REPLY_SHARE = 0.95, 0.8  # of all letters in one script
_FEWEST_LETTERS, _FEWEST_SYLLABLES = 10, 6  # a sign of Han or Hangul is a syllable or a word
_FEWEST_COMMON_WORDS, _FEWEST_DIFFERENT = 6, 4  # one word said six times is a habit, not a language
_COMMON_SHARE = 0.2  # of all words; prose of the languages above has 0.3 to 0.5
_AHEAD = 2.0  # times the common words of the next language


def off_language(pair: Pair) -> str | None:
    """Say which answer is in another language than the prompt, where it clearly is."""
    said = "\n".join(turn.content for turn in pair.prompt)
    if _NAMES_A_LANGUAGE.search(said) or _INTO_SOMETHING.search(said):
        return None
    if differs(pair.prompt, pair.chosen):
        return "off-language (chosen)"
    if pair.source not in REJECTED_AS_IT_CAME and differs(pair.prompt, pair.rejected):
        return "off-language (rejected)"
    return None


def differs(prompt: Sequence[Message], reply: str) -> bool:
    """Whether a reply is clearly in another script or language than the last user turn."""
    asked, answered = (_CODE.sub(" ", text[:_READ_CHARACTERS]) for text in (prompt[-1].content, reply))
    theirs, ours = script(asked, _PROMPT_SHARE), script(answered, _REPLY_SHARE)
    if theirs is None or ours is None:
        return False
    if theirs != ours:
        return ours != "Latin" or language(answered) is not None
    if ours != "Latin":
        return False
    spoken = language(answered)
    return spoken is not None and language(asked) not in {None, spoken}


def script(text: str, share: float) -> str | None:
    """The script that at least `share` of the letters are of; None where there is none, or there are few letters."""
    if text.isascii():
        letters = len(_SCRIPTS["Latin"].findall(text))
        return "Latin" if letters >= _FEWEST_LETTERS else None
    counts = {name: len(signs.findall(text)) for name, signs in _SCRIPTS.items()}
    total = sum(character.isalpha() for character in text)
    name = max(counts, key=lambda key: counts[key])
    enough = counts[name] >= (_FEWEST_SYLLABLES if name in {"Han", "Hangul"} else _FEWEST_LETTERS)
    return name if enough and counts[name] >= share * total else None


def language(text: str) -> str | None:
    """The language of a text in Latin script whose common words are frequent and far ahead; None where none is."""
    words = _WORD.findall(text.casefold())
    hits, different = Counter[str](), Counter[str]()
    for word, times in Counter(words).items():
        for name in _LANGUAGES_OF.get(word, ()):
            hits[name] += times
            different[name] += 1
    first, second = sorted(COMMON_WORDS, key=lambda name: -hits[name])[:2]
    clear = different[first] >= _FEWEST_DIFFERENT
    clear = clear and hits[first] >= max(_FEWEST_COMMON_WORDS, _COMMON_SHARE * len(words), _AHEAD * hits[second])
    return first if clear else None
