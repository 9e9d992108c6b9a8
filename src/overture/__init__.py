"""Overture: published pre-training systems for speech, audio and text as recipes on one data path, one loop and one evaluation."""

__version__ = "0.1.0.dev0"
