FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY jobqueue jobqueue
# A wheel is built and installed, not the tree, so that what runs is what is published. The venv needs no pip of its own.
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/jobqueue \
 && python -m pip --python /opt/jobqueue/bin/python install --no-cache-dir "$(echo /wheels/*.whl)[store-valkey,store-postgres]"

FROM python:3.13-slim
COPY --from=build /opt/jobqueue /opt/jobqueue
# The drain is shorter than the 10 seconds that `docker stop` grants.
ENV PATH=/opt/jobqueue/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    JOBQUEUE_HOST=0.0.0.0 \
    JOBQUEUE_DRAIN_TIMEOUT=8s
# For a volume, which takes its owner from here; without one nothing is written.
RUN install -d -o 10001 -g 10001 /data
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# No curl in a slim image. http.client, because urllib would go through a proxy that HTTP_PROXY names.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('JOBQUEUE_PORT', 8080)), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["jobqueue"]
CMD ["serve"]
