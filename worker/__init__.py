"""Winnow: a streaming message classifier, Kafka to Kafka through a quantized DistilBERT on the CPU."""

__version__ = "0.1.0"
