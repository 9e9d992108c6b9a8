"""A language model that hears: vectors of an adapter stand in the text where tokens would.

An encoder's states (the front end computes and keeps them, where the encoder is frozen) go through an adapter and take the places of a text's
slots; the language model reads both alike. Its logits are computed only where there are labels (`objectives.vocabulary`), which with the
vocabularies of today decides what an update costs.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from overture.data.batch import Batch, States, valid_mask
from overture.data.render import SpokenText
from overture.errors import OvertureError
from overture.models.adapters import ConvGlu, PoolLinear
from overture.models.text import Gpt2, Llama, Pretrained, TextModel


@dataclass(frozen=True, kw_only=True)
class SpeechText:
    """An adapter and a language model."""

    adapter: ConvGlu | PoolLinear
    lm: Llama | Gpt2 | Pretrained

    @property
    def published(self) -> bool:
        """Whether its language model has learnt something before the run begins."""
        return isinstance(self.lm, Pretrained)

    def settled(self) -> "SpeechText":
        """The same, named after the weights of its language model, where that is published."""
        return replace(self, lm=self.lm.settled()) if isinstance(self.lm, Pretrained) else self

    def build(self, frontend: SpokenText) -> "SpeechTextModel":
        """The network; what is not pretrained with fresh weights from torch's current generator.

        Under `torch.device("meta")`, where parameters are counted, without a published language model that is frozen, which may not be installed.
        """
        if (
            torch.get_default_device().type == "meta"
            and isinstance(self.lm, Pretrained)
            and self.lm.frozen
            and self.lm.dim
        ):
            return SpeechTextModel(self.adapter.build(frontend.dim, self.lm.dim), None)
        lm = self.lm.build(frontend.tokens)
        return SpeechTextModel(self.adapter.build(frontend.dim, lm.dim), lm)


class SpeechTextModel(nn.Module):
    """The network as the loop, objectives and tasks call it."""

    lm: TextModel

    def __init__(self, adapter: Any, lm: TextModel | None) -> None:
        super().__init__()
        self.adapter = adapter
        self.lm = lm  # type: ignore[assignment]  # None where parameters are counted

    @property
    def layers(self) -> nn.ModuleList:
        """What a sharded run shards one by one."""
        return self.lm.layers

    @property
    def output(self) -> tuple[nn.Module, Tensor, Tensor | None]:
        """The head over the vocabulary, see `TextModel.output`."""
        return self.lm.output

    def steps(self, lengths: Tensor) -> Tensor:
        """(A,) features -> (A,) vectors."""
        found: Tensor = self.adapter.steps(lengths)
        return found

    def states(self, x: Tensor, lengths: Tensor) -> States:
        """(A, S, F) features, (A,) valid ones -> the vectors that stand for them, one state of (A, T, D)."""
        vectors, steps = self.adapter(x, lengths)
        return States((vectors,), steps)

    def vectors(self, batch: Batch) -> Tensor:
        """(B, T, D) what the language model reads: embeddings of tokens, and in the slots the vectors of what is heard.

        Raises OvertureError where there are more or fewer slots than vectors.
        """
        found = self.lm.embed(batch.x)
        if batch.audio is None or batch.audio_lengths is None:
            return found
        (heard,), steps = self.states(batch.audio, batch.audio_lengths)
        slots = batch.channels["audio"] >= 0  # (B, T), in the order of recordings, row by row
        flat = heard[valid_mask(steps, heard.shape[1])]  # (n, D)
        if int(slots.sum()) != len(flat):
            raise OvertureError(
                f"{int(slots.sum())} slots for {len(flat)} vectors of speech: rendered for another adapter"
            )
        return found.masked_scatter(slots[..., None], flat.to(found.dtype))

    def hidden(self, batch: Batch) -> Tensor:
        """(B, T, D) last states of the language model."""
        return self.lm.hidden_of(self.vectors(batch), batch.lengths, batch.channels.get("document"))

    @torch.no_grad()
    def answer(self, batch: Batch, tokens: int, streamer: Any = None) -> list[list[int]]:
        """The likeliest tokens that follow each example, one at a time, `tokens` at most, up to the end token, which is left out.

        `streamer`: of transformers, is shown each as it comes.
        """
        vectors, longest = self.vectors(batch), batch.x.shape[1]
        behind = (longest - batch.lengths).tolist()  # padding goes to the front, where nothing comes after it
        given = torch.stack([line.roll(n, 0) for line, n in zip(vectors, behind)])
        mask = torch.stack([line.roll(n, 0) for line, n in zip(batch.valid, behind)])
        found = self.lm.network.generate(
            inputs_embeds=given,
            attention_mask=mask.long(),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=self.lm.special.end,
            pad_token_id=self.lm.special.end,
            streamer=streamer,
        )
        ends = ((line == self.lm.special.end).nonzero() for line in found)
        return [line[: int(e[0])].tolist() if len(e) else line.tolist() for line, e in zip(found, ends)]
