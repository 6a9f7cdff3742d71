"""The last net for secrets: forms that are found, and texts that stay as they are."""

import time

import pytest

from harvestd.telemetry.sanitize import HIDDEN, masked

VALUE = "Zq7xW2mN9pL4vB8k"
KEY = f"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n{VALUE}\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        f"http://10.0.0.1:8888/lab?token={VALUE}&next=1",
        f"http://10.0.0.1:8888/lab?next=%2Ftree%3Ftoken%3D{VALUE}",
        f"export WANDB_API_KEY='{VALUE}'",
        f'{{"api_key": "{VALUE}"}}',
        f'{{\\"api_key\\": \\"{VALUE}\\"}}',
        f"jupyter_token: {VALUE}",
        f"HF_TOKEN => {VALUE}",
        f"password={VALUE}",
        f"Authorization: Bearer {VALUE}",
        f"Authorization: Basic {VALUE}==",
        f"curl: bearer {VALUE} was refused",
        f"https://ada:{VALUE}@wandb.example/api",
        f"no such file: hf_{VALUE}",
        f"sk-proj-{VALUE}",
        f"ghp_{VALUE}",
        f"secret_lab_{VALUE}",
        f"before {KEY} after",
        KEY.rsplit("\n", 1)[0],
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    """The value goes; a second time changes nothing."""
    told = masked(text)
    assert VALUE not in told
    assert HIDDEN in told
    assert masked(told) == told


@pytest.mark.parametrize(
    "text",
    [
        "training_runs/run_2025-08-20_03-31-43/training_state/step_final/tokenizer.json",
        "training_state/step_final/tokenizer_config.json: permission denied",
        "max_tokens=1024, temperature=0.7",
        "gpu-a (ubuntu@192.0.2.10:22): the connection was lost",
        "https://cloud.lambda.ai/api/v1",
        "SHA256:Y0sBzKYzVj4T4xZ7q2 of the agent",
        'must be a size, such as "5GiB"',
        "it has a passphrase: it can't be asked for here",
        "environment HARVESTD_API_KEY: api_key: is not a known key",
        "2025-08-20T00:00:00.000000Z",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Paths, errors and addresses are told as they are."""
    assert masked(text) == text


def test_what_is_hidden_leaves_its_neighbours() -> None:
    """A person still reads where the secret stood, and everything around it."""
    assert masked(f"GET /lab?token={VALUE}&next=1 failed") == f"GET /lab?token={HIDDEN}&next=1 failed"
    assert masked(f"before {KEY} after") == f"before {HIDDEN} after"


@pytest.mark.parametrize(
    "piece",
    [
        "token",
        "token:",
        "token: ",
        "token:a",
        "://",
        "://a:",
        "://:x",
        "bearer ",
        "authorization:a",
        '=\\"',
        "-----BEGIN ",
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    """A box chooses what is searched: the time grows with the length, not with its square."""
    text = piece * (200_000 // len(piece)) + " " * 50_000
    began = time.process_time()
    masked(text)
    assert time.process_time() - began < 1
