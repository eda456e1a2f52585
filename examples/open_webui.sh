#!/bin/sh
# Open WebUI in front of a llama-server whose context is four times its cells.
#
#   pip install open-webui
#   sh open_webui.sh model.gguf
set -eu
kvfold serve --virtual 4 --admin 127.0.0.1:8089 -- -m "$1" -c 16384 --host 127.0.0.1 --port 8088 &
trap 'kill $!' EXIT
until curl -sf http://127.0.0.1:8088/health >/dev/null; do
    kill -0 $! # else the server has ended
    sleep 1
done
OPENAI_API_BASE_URL=http://127.0.0.1:8088/v1 OPENAI_API_KEY=none open-webui serve
