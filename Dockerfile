# make-for-milestones with git and bubblewrap, for CI and for machines without Python.
#
#   docker build -t make-for-milestones .
#   docker run --rm -it --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
#       -v "$PWD:/repository" make-for-milestones milestone:m4
#
# bubblewrap makes user namespaces, which the default profiles of Docker forbid; without them the work of sandboxed
# agents waits for a person. Agents are added by an image FROM this one.
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY executor executor
COPY rules rules
RUN python -m build --wheel --outdir /wheels

FROM python:3.13-slim
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends bubblewrap git openssh-client \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
RUN wheel=$(echo /wheels/*.whl) && pip install --no-cache-dir "$wheel[github,gitlab,forgejo,notify,mcp]"
# The repository belongs to another user than the container's.
RUN git config --system --add safe.directory '*'
WORKDIR /repository
ENTRYPOINT ["make-for-milestones"]
CMD ["list"]
