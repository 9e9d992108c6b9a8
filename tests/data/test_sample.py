"""Samples are looked at, not computed: what is said, what is heard, what is learnt."""

from pathlib import Path

import pytest

from overture.data.sample import Heard, Program, Respond, Segment, Template, code, text
from overture.errors import OvertureError

ROW = {"text": "where is the key", "continuation": " I had it yesterday."}


def test_an_utterance_and_its_continuation() -> None:
    program = Respond(instruction="Go on: ")
    assert isinstance(program, Program)
    assert program(ROW, 7) == (
        text("###[Human]:"),
        text("Go on: "),
        Segment("audio", Heard(7)),
        text(""),
        text("\n\n\n###[Assistant]:"),
        text(" I had it yesterday.", learnt=True),
    )
    assert [s.payload for s in program.like("text")(ROW, 7)][2] == "where is the key"
    assert [s.kind for s in program.like("nothing")(ROW, 7)] == ["text"] * 5


def test_only_the_answer_is_learnt_whatever_is_given() -> None:
    for given in ("speech", "text", "nothing"):
        sample = Respond().like(given)(ROW, 0)  # type: ignore[arg-type]
        assert [s.learnt for s in sample] == [False] * (len(sample) - 1) + [True]


def test_earlier_turns_stand_before_the_present_one() -> None:
    template = Template(user="U:", assistant=" A:", after=";")
    asked = template.prompt((text("two"),), earlier=[((Segment("audio", Heard(0)),), "one")])
    assert "".join(str(s.payload) for s in asked if s.kind == "text") == "U: A:one;U:two A:"
    assert [s.kind for s in asked].index("audio") == 1


def test_named_tokens() -> None:
    assert Segment("codes", (3, 4)).named == (code(3), code(4)) == ("<|audio 3|>", "<|audio 4|>")
    assert Segment("time", 1.25).named == ("<|1.25|>",)
    assert Segment("tag", "<|en|>").named == ("<|en|>",) and text("en").named == ()


def test_a_segment_holds_what_its_kind_holds() -> None:
    for kind, payload in (("audio", "words"), ("text", 3.0), ("codes", "7"), ("time", "soon")):
        with pytest.raises(OvertureError, match=kind):
            Segment(kind, payload)  # type: ignore[arg-type]
    with pytest.raises(OvertureError, match="give its codes"):
        Segment("audio", Heard(0), learnt=True)


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<bos>": 0})), bos_token="<bos>")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<start>{{ m.role }}\n{{ m.content }}<end>\n{% endfor %}"
        "{% if add_generation_prompt %}<start>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_the_chat_template_of_a_checkpoint(chat: Path) -> None:
    found = Template.of(chat)
    assert found == Template(user="<start>user\n", assistant="<end>\n<start>assistant\n", after="<end>\n")


def test_a_checkpoint_without_a_chat_template(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}))).save_pretrained(tmp_path)
    with pytest.raises(OvertureError, match="no chat template"):
        Template.of(tmp_path)
