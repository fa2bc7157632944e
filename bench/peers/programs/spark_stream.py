"""`spark_stream.py BOOTSTRAP INPUT OUTPUT MODEL MAX_LENGTH BATCH CHECKPOINT JARS CORES`: Spark NLP, Kafka to Kafka."""

from __future__ import annotations

import sys
from typing import Any

from pyspark.ml import Pipeline  # type: ignore[import-not-found]
from pyspark.sql import SparkSession  # type: ignore[import-not-found]
from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it
from sparknlp.annotator import DistilBertForSequenceClassification, Tokenizer  # type: ignore[import-not-found]
from sparknlp.base import DocumentAssembler  # type: ignore[import-not-found]


def open_session(jars: str, cores: str) -> SparkSession:
    builder = SparkSession.builder.master(f"local[{cores}]").appName("peer")
    settings = {
        "spark.driver.memory": "4g",
        "spark.jars": jars,
        "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
        "spark.kryoserializer.buffer.max": "2000M",
        "spark.ui.enabled": "false",
        # Its default of 6 triples what a message costs on two cores.
        "spark.jsl.settings.onnx.intraOpNumThreads": "1",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def pipeline(session: SparkSession, model: str, max_length: int, batch: int) -> Any:
    document = DocumentAssembler().setInputCol("text").setOutputCol("document")
    tokens = Tokenizer().setInputCols(["document"]).setOutputCol("token")
    classifier = (
        DistilBertForSequenceClassification.loadSavedModel(model, session)
        .setInputCols(["document", "token"])
        .setOutputCol("class")
        .setCaseSensitive(False)
        .setMaxSentenceLength(max_length)
        .setBatchSize(batch)
    )
    return Pipeline(stages=[document, tokens, classifier]).fit(session.createDataFrame([[""]]).toDF("text"))


def main(
    bootstrap: str, source: str, output: str, model: str, max_length: str, batch: str, checkpoint: str, jars: str,
    cores: str,
) -> None:  # fmt: skip
    session = open_session(jars, cores)
    classify = pipeline(session, model, int(max_length), int(batch))
    kafka = {"kafka.bootstrap.servers": bootstrap}
    value = F.col("value").cast("string")
    requests = (
        session.readStream.format("kafka")
        .options(**kafka, subscribe=source, startingOffsets="earliest")
        .load()
        .select("key", F.get_json_object(value, "$.id").alias("id"), F.get_json_object(value, "$.text").alias("text"))
    )
    said = F.col("class")[0]
    answer = F.struct("id", said["result"].alias("label"), said["metadata"].alias("scores"))
    answers = classify.transform(requests).select("key", F.to_json(answer).alias("value"))
    query = (
        answers.writeStream.format("kafka").options(**kafka, topic=output, checkpointLocation=checkpoint).start()
    )  # fmt: skip
    query.awaitTermination()


if __name__ == "__main__":
    main(*sys.argv[1:])
