"""The two towers: a causal transformer over the recent items, and a table of candidates that shares its item vectors.

score = query . item vector + item bias, as one dot product. Item vectors have length 1, because a graph index (HNSW)
has low recall for vectors of very different lengths. The last dimension of a candidate embedding is the bias divided by
`bias_scale`, the median length of a query, which keeps it small too. The last dimension of a query embedding is
`bias_scale`, so an index with the plain dot product ranks exactly as the model does.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from recsys.errors import ReleaseDamaged
from recsys.model.files import CONFIG_FILE, WEIGHTS_FILE
from recsys.model.vocabulary import PADDING_INDEX

SMALLEST_LENGTH = 1e-6
"""Smallest length of an item vector before normalisation; a shorter one counts as no vector."""
ROWS_PER_CHUNK = 8_192
"""Items whose content features are cast to floats at a time: 15 MB for 460 features, for a catalogue of any size."""


class TwoTowerConfig(BaseModel):
    """Hyperparameters of the architecture, which determine the shapes of the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_items: int = Field(ge=1)
    num_content_features: int = Field(ge=0)
    embedding_dim: int = Field(default=128, ge=2)
    num_layers: int = Field(default=2, ge=1)
    num_heads: int = Field(default=1, ge=1)
    feed_forward_factor: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.25, ge=0, le=0.9)
    max_history: int = Field(default=200, ge=1)
    """Number of latest items that the query tower uses."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.embedding_dim % self.num_heads:
            raise ValueError(f"embedding_dim {self.embedding_dim} is not a multiple of num_heads {self.num_heads}")
        return self

    def save(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ReleaseDamaged if the file is missing or does not describe a model."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ReleaseDamaged(f"{path} is not a readable model config: {error}") from error


class Dropout(nn.Module):
    """Inverted dropout with a byte of randomness per element, drawn eight bytes at a time.

    torch.nn.Dropout draws one Bernoulli sample per element, which takes a quarter of a training step on a CPU. The
    rate is rounded to a multiple of 1/256.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropped = round(rate * 256)

    def forward(self, hidden: Tensor) -> Tensor:
        if not self.training or self.dropped == 0:
            return hidden
        words = torch.empty((hidden.numel() + 7) // 8, dtype=torch.int64, device=hidden.device).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: hidden.numel()].view(hidden.shape) >= self.dropped
        return hidden * (kept.to(hidden.dtype) * (256 / (256 - self.dropped)))


class Block(nn.Module):
    """Pre-norm transformer block (Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture").

    Attention is two explicit batched products. For sequences of a few hundred items on a CPU they are faster than the
    fused kernels, and the same code runs on a GPU.
    """

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        dim, inner = config.embedding_dim, config.embedding_dim * config.feed_forward_factor
        self.num_heads = config.num_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward_in = nn.Linear(dim, inner)
        self.feed_forward_out = nn.Linear(inner, dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor, position: Tensor | None = None) -> Tensor:
        """hidden [batch, length, dim], additive mask [(batch,) rows, length] -> [batch, rows, dim].

        Without `position` every position is a row. With `position` [batch] only that one is computed (rows = 1), which
        is enough in the last block for one embedding per sequence.
        """
        keys = self.attention_norm(hidden)
        queries = keys
        if position is not None:
            hidden, queries = _at(hidden, position), _at(keys, position)
        hidden = hidden + self.dropout(self._attend(queries, keys, mask))
        inner = nn.functional.gelu(self.feed_forward_in(self.feed_forward_norm(hidden)))
        return cast(Tensor, hidden + self.dropout(self.feed_forward_out(inner)))

    def _attend(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        query = self._split_heads(self.query(queries))
        key, value = (self._split_heads(part) for part in self.key_value(keys).chunk(2, dim=-1))
        logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        weights = torch.softmax(logits + mask.unsqueeze(-3).to(logits.dtype), dim=-1)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        return cast(Tensor, self.attention_out(mixed))

    def _split_heads(self, hidden: Tensor) -> Tensor:
        """[batch, length, dim] -> [batch, heads, length, dim / heads]."""
        return hidden.view(*hidden.shape[:2], self.num_heads, -1).transpose(1, 2)


class TwoTower(nn.Module):
    """Query tower and candidate tower over one item table; `content` [num_items + 1, num_content_features] is 0 or 1.

    The content features are a buffer, so weights and config are self-contained: an item without interactions still gets
    a vector from its content.
    """

    content: Tensor
    bias_scale: Tensor
    """[]: the median length of a query. It scales the bias in both embeddings and changes no score."""

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.config = config
        dim, rows = config.embedding_dim, config.num_items + 1
        self.item_embedding = nn.Embedding(rows, dim - 1)
        self.item_bias = nn.Embedding(rows, 1)
        self.content_projection = nn.Parameter(torch.empty(config.num_content_features, dim - 1))
        self.position_embedding = nn.Embedding(config.max_history, dim)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(dim)
        # Bytes, not floats: a quarter of the file and of the memory, and the values are 0 or 1.
        self.register_buffer("content", torch.zeros(rows, config.num_content_features, dtype=torch.uint8))
        self.register_buffer("bias_scale", torch.tensor(math.sqrt(dim)))  # the length of a LayerNorm's output
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.item_embedding.weight, std=0.05)
        nn.init.zeros_(self.item_bias.weight)
        nn.init.normal_(self.content_projection, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def item_vectors(self, item_indices: Tensor) -> Tensor:
        """[...] -> [..., embedding_dim - 1]: the id's embedding plus the projection of its content, normalised to 1.

        All zeros for an item that has neither training events nor content.
        """
        vectors = self.item_embedding(item_indices)
        if self.config.num_content_features:
            content = self.content[item_indices].to(vectors.dtype)
            vectors = vectors + (content @ self.content_projection).to(vectors.dtype)
        return nn.functional.normalize(vectors, dim=-1, eps=SMALLEST_LENGTH)

    def candidate_embeddings(self, item_indices: Tensor) -> Tensor:
        """[...] -> [..., embedding_dim]: the item's vector, then its bias divided by `bias_scale`."""
        return torch.cat([self.item_vectors(item_indices), self.item_bias(item_indices) / self.bias_scale], dim=-1)

    def candidate_tower(self) -> Tensor:
        """-> [num_items, embedding_dim]; row r belongs to item_index r + 1, so padding is never a candidate."""
        tower = torch.empty(self.config.num_items, self.config.embedding_dim, device=self.content.device)
        start = 0
        for chunk in self.candidate_chunks():  # torch.cat would need the memory twice
            tower[start : start + len(chunk)] = chunk
            start += len(chunk)
        return tower

    def candidate_chunks(self) -> Iterator[Tensor]:
        """The rows of `candidate_tower`, in their order, a part at a time."""
        rows = torch.arange(1, self.config.num_items + 1, device=self.content.device)
        for chunk in torch.split(rows, ROWS_PER_CHUNK):
            yield self.candidate_embeddings(chunk)

    @torch.no_grad()
    def set_bias_scale(self, queries: Tensor) -> None:
        """Set `bias_scale` to the median length of queries [queries, embedding_dim] without their last dimension."""
        self.bias_scale.copy_(queries[:, :-1].norm(dim=-1).median())

    def query_tower(self, item_indices: Tensor, lengths: Tensor) -> Tensor:
        """[batch, length <= max_history] right-padded, lengths [batch] -> [batch, length, embedding_dim].

        Position p sees items 0..p only. Outputs at padded positions (p >= length) are undefined.
        """
        hidden = self._embed(item_indices, lengths)
        mask = _causal_mask(item_indices.shape[1], hidden)
        for block in self.blocks:
            hidden = block(hidden, mask)
        return self._query_embeddings(hidden)

    def encode(self, item_indices: Tensor, lengths: Tensor) -> Tensor:
        """[batch, length] right-padded, lengths [batch] -> [batch, embedding_dim], one query embedding per sequence.

        Only the latest max_history items of a sequence are used. For an empty sequence the dot product is the item's
        bias alone, which ranks by popularity.
        """
        empty = torch.zeros(len(lengths), self.config.embedding_dim, device=self.content.device)
        empty[:, -1] = self.bias_scale
        if item_indices.shape[1] == 0:
            return empty
        item_indices, lengths = _latest(item_indices, lengths, self.config.max_history)
        last = (lengths - 1).clamp(min=0)
        hidden = self._embed(item_indices, lengths)
        mask = _causal_mask(item_indices.shape[1], hidden)
        for block in self.blocks[:-1]:
            hidden = block(hidden, mask)
        hidden = self.blocks[-1](hidden, mask[last].unsqueeze(1), last)
        return torch.where((lengths > 0).unsqueeze(1), self._query_embeddings(hidden).squeeze(1).to(empty.dtype), empty)

    def forward(self, item_indices: Tensor, lengths: Tensor) -> Tensor:
        return self.query_tower(item_indices, lengths)

    def _embed(self, item_indices: Tensor, lengths: Tensor) -> Tensor:
        length, dim = item_indices.shape[1], self.config.embedding_dim
        positions = torch.arange(length, device=item_indices.device)
        real = item_indices.masked_fill(positions >= lengths.unsqueeze(1), PADDING_INDEX)
        # sqrt(dim) scales items relative to positions (Vaswani et al. 2017, section 3.4). The last dimension stays 0.
        vectors = nn.functional.pad(self.item_vectors(real), (0, 1)) * math.sqrt(dim)
        return cast(Tensor, self.dropout(vectors + self.position_embedding(positions)))

    def _query_embeddings(self, hidden: Tensor) -> Tensor:
        hidden = self.final_norm(hidden)
        return torch.cat([hidden[..., :-1], self.bias_scale.to(hidden.dtype).expand_as(hidden[..., :1])], dim=-1)


def save_model(model: TwoTower, directory: Path) -> None:
    """Write config.json and weights.safetensors into `directory`."""
    model.config.save(directory / CONFIG_FILE)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / WEIGHTS_FILE)


def load_model(directory: Path, device: str = "cpu") -> TwoTower:
    """The model of `directory`, in eval mode. Raises ReleaseDamaged if a file is missing or a shape differs."""
    config = TwoTowerConfig.load(directory / CONFIG_FILE)
    path = directory / WEIGHTS_FILE
    try:
        weights = load_file(path)
        with torch.device("meta"), _Uninitialised():
            model = TwoTower(config)
        model.load_state_dict(weights, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ReleaseDamaged(f"{path} does not contain the weights that {CONFIG_FILE} describes: {error}") from error
    return model.to(device).eval()


class _Uninitialised(TorchFunctionMode):
    """Creates modules without normally distributed weights, because those of the file replace them.

    On the device `meta`, drawing them would import torch's compiler, which takes more than a second.
    """

    def __torch_function__(
        self, function: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", None) == "normal_":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def _causal_mask(length: int, like: Tensor) -> Tensor:
    """[length, length]: 0 for the positions that row p sees (0..p), -inf for the others."""
    return torch.full((length, length), -torch.inf, dtype=like.dtype, device=like.device).triu(1)


def _at(hidden: Tensor, position: Tensor) -> Tensor:
    """[batch, length, dim], [batch] -> [batch, 1, dim]."""
    return hidden[torch.arange(len(position), device=hidden.device), position].unsqueeze(1)


def _latest(item_indices: Tensor, lengths: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Drop from each right-padded row all but its latest `limit` items."""
    if item_indices.shape[1] <= limit:
        return item_indices, lengths
    start = (lengths - limit).clamp(min=0).unsqueeze(1)
    window = start + torch.arange(limit, device=item_indices.device)
    return item_indices.gather(1, window), lengths.clamp(max=limit)
