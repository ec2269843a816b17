# The image holds one static program and the authorities of the public web; it runs as nobody.
#   docker build .        builds the program in a container; --build-arg FEATURES=otlp: one that sends traces
#   cargo lab image       takes the program that this machine built the same way (PROGRAM=given)
ARG PROGRAM=build

FROM rust:1.95-bookworm AS build
WORKDIR /source
ARG FEATURES=
COPY . .
RUN scripts/static.sh release /out && cp /etc/ssl/certs/ca-certificates.crt /out/

FROM scratch AS given
COPY target/image/out/ /out/

FROM ${PROGRAM} AS program

FROM scratch
COPY --from=program /out/kafka-external-access /kafka-external-access
COPY --from=program /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/kafka-external-access"]
