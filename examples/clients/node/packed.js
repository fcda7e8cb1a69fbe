import avro from "avsc";
import * as zstd from "@bokuweb/zstd-wasm";

const MEDIA_TYPE = "application/json";

await zstd.init();

/** Packs the calls of one process. Their ids are `<publisherId>-<sequence>`. */
export class Packer {
  #type;
  #sequence = 0;

  /** `schema` is what envelope.avsc holds. */
  constructor(schema, publisherId) {
    this.#type = avro.Type.forSchema(schema, { wrapUnions: false });
    this.publisherId = publisherId;
  }

  /** Many calls of one model as one message: a fraction of the cost. */
  packedPredictions(modelId, calls) {
    const first = this.#sequence;
    this.#sequence += calls.length;
    const batch = {
      batch_id: `${this.publisherId}-${first}`,
      publisher_id: this.publisherId,
      model_id: modelId,
      model_version: "",
      kind: "prediction",
      first_sequence: first,
      request_type: MEDIA_TYPE,
      request_encoding: "",
      response_type: MEDIA_TYPE,
      response_encoding: "",
      context_type: MEDIA_TYPE,
      context_encoding: "",
      sequence_offset: calls.map((_, offset) => offset),
      event_time: calls.map((call) => Date.parse(call.event_time) * 1000), // in microseconds
      status: calls.map((call) => call.status),
      latency_us: calls.map(() => null),
      headers: calls.map(() => Buffer.from("{}")),
      attributes: calls.map(() => Buffer.from("{}")),
      request: calls.map((call) => json(call.request)),
      response: calls.map((call) => json(call.response)),
      context: calls.map((call) => json(call.context)),
      cut: calls.map(() => 0),
    };
    return {
      data: Buffer.from(zstd.compress(this.#type.toBuffer(batch), 1)),
      attributes: {
        content: "weighbridge.batch.v1",
        encoding: "avro+zstd",
        model_id: modelId,
        batch_id: batch.batch_id,
        publisher_id: this.publisherId,
        first_sequence: String(first),
        envelope_count: String(calls.length),
      },
    };
  }
}

/** In a service these are the bytes of the body, as they came or went. */
function json(value) {
  return value === undefined ? null : Buffer.from(JSON.stringify(value));
}
