# make up ARGS="--port 8600"   everything on this machine
# make test                    all tests; what the machine lacks (Kafka's jars, a browser) is skipped with the reason
# make check                   format, lint, types
# make audit                   known holes in what the lock files pin (asks PyPI)
# make sbom                    what the runtime consists of, as CycloneDX JSON
SHELL = /bin/sh
PYTHON = python3
VENV = .venv
TRAIN_VENV = .venv-train
ARGS =
# What needs torch (3 GB), which the runtime must do without: it has an environment of its own.
TORCH_TESTS = tests/training tests/inference_worker/test_torch_engine.py tests/inference_worker/test_onnx_to_fx.py \
    tests/benchmarks/test_agreement.py
export PYTHON

SBOM = .moodstream/sbom/moodstream.cdx.json
SBOM_VENV = .moodstream/sbom/venv

.PHONY: install up check audit sbom test test-unit test-train lock kafka clean

install: $(VENV)/.runtime

up: install
	@exec $(VENV)/bin/moodstream up $(ARGS)

check: $(VENV)/.dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

audit: $(VENV)/.dev
	@$(VENV)/bin/python -m deploy.audit $(ARGS)

# Of an environment of its own, as $(VENV) also has what developers need.
sbom: $(VENV)/.dev
	deploy/venv.sh $(SBOM_VENV) requirements.txt
	$(VENV)/bin/cyclonedx-py environment --no-validate --pyproject pyproject.toml -o $(SBOM) $(SBOM_VENV)/bin/python
	$(VENV)/bin/python -m deploy.sbom $(SBOM)
	@echo $(SBOM)

test: test-train $(VENV)/.dev kafka
	$(VENV)/bin/python -m pytest $(TORCH_TESTS:%=--ignore=%) $(ARGS)

test-unit: $(VENV)/.dev
	$(VENV)/bin/python -m pytest $(TORCH_TESTS:%=--ignore=%) -m "not (slow or kafka or browser or data)" $(ARGS)

test-train: $(TRAIN_VENV)/.train
	$(TRAIN_VENV)/bin/python -m pytest $(TORCH_TESTS) $(ARGS)

lock: $(VENV)/.runtime
	deploy/lock.sh

# Apache Kafka for the tests marked `kafka`; without Maven or a JDK they are skipped.
kafka: .moodstream/kafka/.complete

.moodstream/kafka/.complete: tests/kafka-pom.xml
	@if command -v mvn >/dev/null; then \
	    rm -rf .moodstream/kafka && \
	    mvn -q -B -f tests/kafka-pom.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/.moodstream/kafka" && \
	    touch $@; \
	else echo "no Maven: the tests against Apache Kafka will be skipped"; fi

$(VENV)/.runtime: requirements.txt pyproject.toml deploy/venv.sh
	deploy/venv.sh $(VENV) requirements.txt
	@rm -f $(VENV)/.dev && touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	deploy/venv.sh $(VENV) requirements-dev.txt
	@touch $@

$(TRAIN_VENV)/.train: requirements-train.txt pyproject.toml deploy/venv.sh
	deploy/venv.sh $(TRAIN_VENV) requirements-train.txt
	@touch $@

clean:
	rm -rf $(VENV) $(TRAIN_VENV) .moodstream build *.egg-info
