"""Typed answers: what a JSON Schema asks of a model, and whether its answers fit."""
