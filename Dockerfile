# syntax=docker/dockerfile:1
FROM docker.io/library/python:3.11-slim-bookworm AS build
WORKDIR /src
# The dependencies change more rarely than the code, so they have a layer of their own.
COPY requirements/runtime.txt requirements/runtime.txt
RUN python -m venv /opt/winnow \
    && /opt/winnow/bin/pip install --no-cache-dir --no-compile --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
# hatchling is the build backend; everything that runs comes from the hash-locked file above.
RUN /opt/winnow/bin/pip install --no-cache-dir --no-compile --no-deps . \
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
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/healthz', timeout=2)"]
# The interpreter is PID 1 and gets SIGTERM itself; no shell stands between.
ENTRYPOINT ["winnow"]
CMD ["run"]
