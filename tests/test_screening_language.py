"""Off-language replies: clear ones are found, doubtful ones stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from screening_pairs import asked

from limbeck.screening.language import language, off_language

ENGLISH = "The sky is blue because the air scatters short waves of light, and that is what we see from the ground."
TEXTS = {
    "English": ENGLISH,
    "German": "Der Himmel ist blau, weil die Luft das kurzwellige Licht streut, und das ist es, was wir hier sehen.",
    "French": "Le ciel est bleu parce que l'air diffuse la lumière de courte longueur d'onde, et c'est ce que nous "
    "voyons dans toutes les directions quand il est pur.",
    "Spanish": "El cielo es azul porque el aire dispersa la luz de onda corta, y eso es lo que se ve en el día desde "
    "la tierra, pero al final del día es rojo.",
    "Portuguese": "O céu é azul porque o ar espalha a luz de onda curta, e isso é o que você vê do chão, mas no fim "
    "do dia ele não é mais azul, é vermelho para quem está na praia.",
    "Italian": "Il cielo è blu perché l'aria diffonde la luce di onda corta, e questo è ciò che si vede da terra, ma "
    "alla fine della giornata non è più blu e il sole è rosso.",
    "Dutch": "De lucht is blauw omdat het licht met een korte golflengte door de lucht wordt verstrooid, en dat is wat "
    "je van de grond ziet, maar in de avond is het niet meer zo.",
}  # fmt: skip
RUSSIAN = "Небо голубое, потому что воздух рассеивает короткие волны света сильнее, чем длинные."
CHINESE = "天空之所以是蓝色的，是因为空气散射短波光。"
CODE = "```python\nfor item in the_list:\n    print(item)\n```"


@pytest.mark.parametrize("name", TEXTS)
def test_prose_is_known_by_its_common_words(name: str) -> None:
    assert language(TEXTS[name]) == name


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        (ENGLISH, RUSSIAN),
        ("Explain why the sky is blue.", CHINESE),
        (RUSSIAN, ENGLISH),
        (CHINESE, ENGLISH),
        (RUSSIAN, CHINESE),
        (ENGLISH, TEXTS["German"]),
        (TEXTS["French"], ENGLISH),
        (TEXTS["Dutch"], TEXTS["Italian"]),
    ],
)
def test_a_reply_that_is_clearly_in_another_language_is_named(prompt: str, reply: str) -> None:
    assert off_language(asked(prompt, chosen=reply)) == "off-language (chosen)"
    right = TEXTS["English"] if prompt in {ENGLISH, "Explain why the sky is blue."} else prompt
    assert off_language(asked(prompt, chosen=right, rejected=reply)) == "off-language (rejected)"
    assert off_language(asked(prompt, chosen=right, rejected=reply, source="on_policy")) is None
    assert off_language(asked(prompt, chosen=right, rejected=reply, source="contrast")) is None


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        ("Translate to Russian: the sky is blue because the air scatters it.", RUSSIAN),
        ("How would a German put it that the sky is blue?", TEXTS["German"]),
        ("Write a note to a friend of mine in Bulgarian, please.", RUSSIAN),
        ("What is the Sanskrit verse that the book begins with?", "धर्मक्षेत्रे कुरुक्षेत्रे समवेता युयुत्सवः मामकाः पाण्डवाश्चैव"),
        (
            "Say it so that a yiddish speaker gets it, with the vowels.",
            "דער הימל איז בלוי ווייל די לופט צעשפרייט דאס ליכט",
        ),
        ("Spell it with cyrillic letters so that I can read it out loud.", RUSSIAN),
        ("Put it into Chukchi for the people who live there now.", RUSSIAN),
        ("请把下面的句子翻译成英文：天空是蓝色的。", ENGLISH),
        ("Переведи, пожалуйста: небо голубое, потому что так есть.", ENGLISH),
        (CHINESE, CODE),
        (RUSSIAN, "E = m c^2, https://example.org/relativity"),
        (RUSSIAN, "Albert Einstein, Max Planck"),
        (CHINESE, "日本の空も青いです。とてもきれいです。"),
        ("Who wrote 罪と罰, and when?", CHINESE),
        ("Sky?", TEXTS["German"]),
        (ENGLISH, "Himmel blau Luft Licht Welle Boden Auge Farbe"),
        (ENGLISH, "42"),
        (ENGLISH, ""),
        (
            "How many miles does she run in the week, and who is first?",
            "1 plus 1 plus 1 plus 1 plus 1 plus 1 plus 1 is 7",
        ),
    ],
)
def test_in_doubt_nothing_is_dropped(prompt: str, reply: str) -> None:
    assert off_language(asked(prompt, chosen=reply)) is None


def test_a_system_turn_that_names_a_language_counts_too() -> None:
    row = asked("Why is the sky blue in the day and red in the evening?", chosen=TEXTS["French"])
    system = row.prompt[0].model_copy(update={"role": "system", "content": "Answer in French."})
    assert off_language(row) == "off-language (chosen)"
    assert off_language(row.model_copy(update={"prompt": (system, *row.prompt)})) is None


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_judged_without_an_error_and_never_differs_from_itself(prompt: str, reply: str) -> None:
    assert off_language(asked(prompt, chosen=reply, rejected=prompt)) in {None, "off-language (chosen)"}


LANGUAGES = (
    "Bulgarian Serbian Macedonian Belarusian Ukrainian Kazakh Kyrgyz Mongolian Tajik Tatar Sanskrit Marathi Nepali "
    "Konkani Yiddish Ladino Aramaic Pashto Dari Urdu Persian Kurdish Uyghur Sindhi Assamese Cantonese Hokkien Hanja "
    "Cyrillic Devanagari Hangul Kanji Katakana Hiragana Pinyin Romaji Hebrew Arabic Greek"
)


@pytest.mark.parametrize("name", LANGUAGES.split())
def test_a_prompt_that_names_a_language_or_a_script_is_not_judged(name: str) -> None:
    prompt = f"Could it be said with some {name.lower()} that the sky is blue because of the air?"
    assert off_language(asked(prompt, chosen=RUSSIAN)) is None
    assert off_language(asked(prompt.replace(name.lower(), "ease"), chosen=RUSSIAN)) == "off-language (chosen)"
