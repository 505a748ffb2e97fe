"""Tokens and their cost by kind."""

from __future__ import annotations

from msgspec import Struct

from tieline.types.money import Pico


class CostParts(Struct, frozen=True, kw_only=True):
    """What each kind of token and call cost; ``total`` is their exact sum."""

    input: Pico = 0
    cache_read: Pico = 0
    cache_read_audio: Pico = 0
    cache_write_5m: Pico = 0
    cache_write_1h: Pico = 0
    input_audio: Pico = 0
    input_image: Pico = 0
    output: Pico = 0
    output_audio: Pico = 0
    output_image: Pico = 0
    web_search: Pico = 0
    file_search: Pico = 0
    per_request: Pico = 0

    @property
    def total(self) -> Pico:
        return (
            self.input
            + self.cache_read
            + self.cache_read_audio
            + self.cache_write_5m
            + self.cache_write_1h
            + self.input_audio
            + self.input_image
            + self.output
            + self.output_audio
            + self.output_image
            + self.web_search
            + self.file_search
            + self.per_request
        )


class TokenSplit(Struct, frozen=True):
    """Disjoint counts; the input kinds add up to ``input_total``, the output kinds to the output."""

    input_total: int
    plain: int
    cache_read: int
    cache_read_audio: int
    cache_write_5m: int
    cache_write_1h: int
    audio: int
    image: int
    output: int
    output_audio: int
    output_image: int
