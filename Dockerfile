# syntax=docker/dockerfile:1
FROM docker.io/library/python:3.11-slim-bookworm AS build
WORKDIR /src
# What a worker runs on, by the name of its lock file: runtime, or registry for a schema registry's formats as well.
ARG REQUIREMENTS=runtime
# The dependencies change more rarely than the code, so they have a layer of their own.
COPY requirements/${REQUIREMENTS}.txt requirements/${REQUIREMENTS}.txt
RUN python -m venv /opt/winnow \
    && /opt/winnow/bin/pip install --no-cache-dir --require-hashes -r "requirements/${REQUIREMENTS}.txt"
COPY requirements/build.txt requirements/build.txt
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /opt/wheels . \
    && /opt/winnow/bin/pip install --no-cache-dir --no-deps --no-index /opt/wheels/*.whl \
    && /opt/winnow/bin/pip uninstall --yes --quiet pip setuptools

FROM docker.io/library/python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="winnow" \
      org.opencontainers.image.description="Streaming message classifier: Kafka to Kafka through an INT8 DistilBERT on the CPU" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/winnow /opt/winnow
ENV PATH=/opt/winnow/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 9464
# The interpreter is PID 1 and gets SIGTERM itself; no shell stands between.
ENTRYPOINT ["winnow"]
CMD ["run"]
