# docker build -t sluice . && docker run --rm -i sluice - echo:
# docker run --rm -p 8000:8000 sluice listen+ws://0.0.0.0:8000 echo:
FROM swift:6.3-bookworm AS build
WORKDIR /sluice
COPY scripts/install scripts/install
RUN scripts/install package
COPY . .
RUN git config --global --add safe.directory /sluice && scripts/package

FROM debian:bookworm-slim
COPY --from=build /sluice/.build/dist/*.deb /tmp/
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates /tmp/sluice-cli_*.deb \
 && rm -rf /tmp/*.deb /var/lib/apt/lists/*
USER nobody
ENTRYPOINT ["sluice"]
