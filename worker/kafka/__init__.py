"""Kafka through confluent-kafka: the only package of the worker that knows the client."""
