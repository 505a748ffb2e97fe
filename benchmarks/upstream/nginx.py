"""nginx as the upstream of whole answers: a static completion per size, for any POST."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.upstream.bodies import completion

_CONFIG = """\
daemon off;
master_process off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/nginx.log warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  sendfile on;
  tcp_nodelay on;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_temp_path {work}/body;
  proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi;
  scgi_temp_path {work}/scgi;
  default_type application/json;
  open_file_cache max=64;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root {work}/answers;
    location / {{ error_page 405 =200 $uri; }}
  }}
}}
"""


def available() -> bool:
    return shutil.which("nginx") is not None or Path("/usr/sbin/nginx").exists()


def prepare(work: Path, port: int, sizes: dict[str, int]) -> list[str]:
    """Writes configuration and answers under ``work``; returns the command. Static files refuse POST with 405, which
    is turned into the file itself: the usual way to let nginx answer a POST without a backend."""
    for label, size in sizes.items():
        answer = work / "answers" / label / "v1" / "chat" / "completions"
        answer.parent.mkdir(parents=True, exist_ok=True)
        answer.write_bytes(completion(size))
    config = work / "nginx.conf"
    config.write_text(_CONFIG.format(work=work, port=port))
    return [shutil.which("nginx") or "/usr/sbin/nginx", "-e", "stderr", "-p", str(work), "-c", str(config)]
