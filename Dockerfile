# `tcl serve` in a container:
#
#   docker build -t tcl-serve .
#   docker run -p 8765:8765 -e TCL_TOKEN=... -v /photos:/photos:ro tcl-serve /photos/photos.index --model /photos/model
#
# The index, its photographs and its model lie in what is mounted, which may be read-only. It is mounted where it was when
# `tcl index` ran: an index knows its photographs by that path, and elsewhere has nothing larger than its small pictures.
FROM python:3.12-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY tcl tcl
RUN pip install --no-cache-dir --constraint constraints.txt ".[serve]" && useradd --create-home serve
USER serve
ENV HF_HUB_DISABLE_TELEMETRY=1
EXPOSE 8765
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/healthz')"]
ENTRYPOINT ["tcl", "serve", "--host", "0.0.0.0"]
