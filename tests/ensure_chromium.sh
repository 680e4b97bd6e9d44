#!/usr/bin/env bash
# Makes sure that the browser tests find a Chromium: one that is there, the system's package, or Playwright's own.
# Usage: ensure_chromium.sh PYTHON
set -u
python=${1:-python3}

found() {
    [ -n "${GPTSIM_CHROMIUM:-}" ] && command -v "$GPTSIM_CHROMIUM" > /dev/null && return 0
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" > /dev/null && return 0
    done
    "$python" - << 'END'
import os, sys
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    sys.exit(not os.path.exists(playwright.chromium.executable_path))
END
}

install_package() {
    command -v apt-get > /dev/null || return 1
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    echo "installing chromium for the browser tests ..."
    "${as_root[@]}" apt-get install -y -q --no-install-recommends chromium > /dev/null && return 0
    "${as_root[@]}" apt-get update -q > /dev/null &&
        "${as_root[@]}" apt-get install -y -q --no-install-recommends chromium > /dev/null
}

found 2> /dev/null && exit 0
install_package && found 2> /dev/null && exit 0
"$python" -m playwright install chromium && exit 0
echo "error: the browser tests need a Chromium and none could be installed; install your system's package chromium, or run" \
    "$python -m pytest yourself, which leaves those tests out" >&2
exit 1
