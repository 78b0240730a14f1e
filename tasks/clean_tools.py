"""What the cleaning rules look with: their parameters, the base model's tokenizer and template, the recognisers."""

from dataclasses import dataclass
from pathlib import Path

from tasks.chat_tokens import ChatTokens, load_chat_tokens
from tasks.language import LanguageIdentifier
from tasks.params_data import CleanParams
from tasks.pii import PiiRecogniser, build_recogniser
from tasks.special_tokens import SpecialTokens


@dataclass(frozen=True)
class CleaningTools:
    """The parameters of cleaning and what was built for them; a recogniser whose rule is off is None."""

    params: CleanParams
    chat: ChatTokens
    special_tokens: SpecialTokens
    pii: PiiRecogniser | None
    language: LanguageIdentifier | None


def build_tools(params: CleanParams, tokenizer_folder: Path) -> CleaningTools:
    """Build what `params` switches on; the tokenizer is that of the stage `base`.

    Raises:
        FileInvalid: the folder holds no tokenizer with a chat template.
    """
    chat = load_chat_tokens(tokenizer_folder)
    return CleaningTools(
        params=params,
        chat=chat,
        special_tokens=SpecialTokens([*chat.special_tokens(), *params.special_tokens.extra]),
        pii=build_recogniser(params.pii.kinds) if params.pii and params.pii.kinds else None,
        language=LanguageIdentifier() if params.language else None,
    )
