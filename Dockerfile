# The bundle as a command without network; docs/offline.md says how to use it.
#
#   docker build --tag knee-mri --build-arg DEVICE=cuda .                        the whole lock, every hash checked
#   docker build --tag knee-mri --build-arg DEVICE=cpu --build-arg TORCH_INDEX=... .   torch for CPUs, 5 GB less
#
# PIP_INDEX_URL is pip's index of packages if it is not pip's own. TORCH_INDEX is PyTorch's index of CPU wheels (or a
# mirror): the lock's hashes are those of the CUDA wheels, so there torch and torchvision alone go by version.
FROM python:3.12-slim

ARG DEVICE=cuda
ARG TORCH_INDEX=
ARG PIP_INDEX_URL=

RUN useradd --create-home --uid 10001 knee
WORKDIR /opt/knee
COPY requirements/ requirements/
RUN set -eu; \
    if [ -n "$PIP_INDEX_URL" ]; then export PIP_INDEX_URL; else unset PIP_INDEX_URL; fi; \
    python -m venv .venv; \
    pip() { .venv/bin/python -m pip install --no-cache-dir "$@"; }; \
    case "$DEVICE" in \
    cuda) pip --require-hashes -r requirements/run.txt ;; \
    cpu) \
        [ -n "$TORCH_INDEX" ] || { echo "DEVICE=cpu needs TORCH_INDEX, PyTorch's index of CPU wheels"; exit 1; }; \
        awk -f requirements/without_torch.awk requirements/run.txt > /tmp/run.txt; \
        pip --no-deps --require-hashes -r /tmp/run.txt; \
        pip --no-deps --index-url "$TORCH_INDEX" \
            $(grep -oE '^torch(vision)?==[0-9.]+' requirements/run.txt | sed 's/$/+cpu/'); \
        rm /tmp/run.txt ;; \
    *) echo "DEVICE must be cpu or cuda, got $DEVICE"; exit 1 ;; \
    esac

COPY pyproject.toml README.md LICENSE ./
COPY bundle/ bundle/
COPY configs/ configs/
COPY models/ models/
COPY scripts/ scripts/
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation --no-index --editable . \
    && .venv/bin/python -c "import bundle"

USER knee
ENV MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /data
ENTRYPOINT ["/opt/knee/.venv/bin/python", "/opt/knee/scripts/synthesise.py"]
CMD ["--help"]
