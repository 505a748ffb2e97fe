"""Hosts of models. ``rows`` is the registry, ``row`` says what a row is, ``errors`` classifies what hosts answer."""
