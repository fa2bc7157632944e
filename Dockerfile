# syntax=docker/dockerfile:1
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS tools
WORKDIR /src
COPY requirements/build.txt requirements/sbom.txt requirements/
RUN python -m venv /opt/tools \
    && /opt/tools/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt -r requirements/sbom.txt

# What a worker runs on has a layer of its own, because it changes more rarely than the code.
FROM tools AS dependencies
# By the name of a lock file: runtime, registry, otel, or full for both of these.
ARG REQUIREMENTS=runtime
COPY requirements/${REQUIREMENTS}.txt requirements/
RUN python -m venv --without-pip /opt/winnow \
    && /opt/tools/bin/pip --python /opt/winnow/bin/python install --no-cache-dir --require-hashes \
        -r "requirements/${REQUIREMENTS}.txt" \
    && find /opt/winnow -type d -name tests -prune -exec rm -r {} +

FROM dependencies AS code
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
COPY deploy/image/sbom.py deploy/image/sbom.py
# A folder of its own for what is copied over the dependencies: the code, and the list of what the image holds, which is
# made of both.
RUN /opt/tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /opt/wheels . \
    && /opt/tools/bin/pip --python /opt/winnow/bin/python install --no-cache-dir --no-deps --no-index \
        --prefix /opt/code /opt/wheels/*.whl \
    && echo /opt/code/lib/python*/site-packages > "$(echo /opt/winnow/lib/python*/site-packages)/code.pth" \
    && /opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-file /opt/code/sbom.cdx.json /opt/winnow/bin/python \
    && python deploy/image/sbom.py /opt/code/sbom.cdx.json

FROM ${BASE}
COPY --from=dependencies /opt/winnow /opt/winnow
COPY --from=code /opt/code /opt/winnow
ENV PATH=/opt/winnow/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1
USER 10001:10001
EXPOSE 9464
# No shell stands between: the interpreter is PID 1. SIGTERM is blocked until it can be handled, because the kernel drops
# what PID 1 does not handle; a pod that is deleted while it starts would wait out its grace period.
ENTRYPOINT ["env", "--block-signal=TERM", "winnow"]
CMD ["run"]
ARG BASE
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="winnow" \
      org.opencontainers.image.description="Streaming message classifier: Kafka to Kafka through an INT8 DistilBERT on the CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE}"
