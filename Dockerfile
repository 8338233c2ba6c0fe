# Everything in one image: `usual` is its command. See compose.yaml.
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /usual
COPY requirements.lock pyproject.toml README.md ./
RUN pip install --no-cache-dir --only-binary grpcio -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --editable . \
    && useradd --create-home usual && mkdir /state /artifacts && chown usual /state /artifacts
USER usual
EXPOSE 3000
ENTRYPOINT ["usual"]
