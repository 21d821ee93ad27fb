#!/usr/bin/env python3
"""A program with the command line, the environment and the paths of ``vllm serve``. It holds no model: what is proved
with it is the contract between Fairlead and the command, not vLLM itself.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["serve"])
parser.add_argument("model")
parser.add_argument("--host", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--max-num-seqs", type=int)
parser.add_argument("--max-model-len", type=int)
parser.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction)
parser.add_argument("--enable-prompt-tokens-details", action="store_true")
parser.add_argument("--enable-lora", action="store_true")
parser.add_argument("--max-loras", type=int)
parser.add_argument("--lora-modules", nargs="*", default=[])
parser.add_argument("--max-lora-rank", type=int)
parser.add_argument("--served-model-name", required=True)
parser.add_argument("--runner", choices=["pooling"])
parser.add_argument("--load-s", type=float, default=0.0)
parser.add_argument("--pid-file", type=Path)
parser.add_argument("--worker-pid-file", type=Path, help="start a process that outlives this one, as vLLM's do")
options = parser.parse_args()
names = {options.served_model_name, *(module.partition("=")[0] for module in options.lora_modules)}
ready_at = time.monotonic() + options.load_s
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if options.worker_pid_file:
    worker = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    options.worker_pid_file.write_text(str(worker.pid))
if options.pid_file:
    options.pid_file.write_text(str(os.getpid()))


METRICS = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="org/qwen"} 2.0
vllm:num_requests_running{engine="1",model_name="org/qwen"} 1.0
vllm:num_requests_waiting{engine="0",model_name="org/qwen"} 2.0
vllm:num_requests_waiting{engine="1",model_name="org/qwen"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="org/qwen"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="org/qwen"} 0.125
vllm:prompt_tokens_total{engine="0",model_name="org/qwen"} 1e+06
"""
"""As vLLM writes them."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(METRICS)
            self.close_connection = True
            return
        self.answer(200 if self.path == "/health" and time.monotonic() >= ready_at else 503, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {os.environ['VLLM_API_KEY']}":
            self.answer(401, {"error": "Unauthorized"})
        elif body["model"] not in names:
            reason = f"The model `{body['model']}` does not exist."
            self.answer(404, {"error": {"message": reason, "type": "NotFoundError", "param": "model", "code": 404}})
        elif options.runner:
            vectors = [{"index": n, "object": "embedding", "embedding": [0.5, n]} for n, _ in enumerate(body["input"])]
            self.answer(200, {"object": "list", "model": body["model"], "data": vectors,
                              "usage": {"prompt_tokens": 3, "total_tokens": 3}})  # fmt: skip
        else:
            told = {"argv": sys.argv[1:], "asked": body, "environment": dict(os.environ)}
            message = {"role": "assistant", "content": json.dumps(told), "reasoning": "I am none."}
            choice = {"index": 0, "message": message, "finish_reason": "stop", "stop_reason": None}
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            self.answer(200, {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
                              "choices": [choice], "usage": usage})  # fmt: skip

    def log_message(self, *args: object) -> None:
        pass


ThreadingHTTPServer((options.host, options.port), Handler).serve_forever()
