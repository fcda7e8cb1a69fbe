import { createWriteStream } from "node:fs";
import { rename } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import avro from "avsc";

/**
 * Writes messages to a file for `weighbridge run`; `schema` is what archive.avsc holds.
 * A follower may be looking at the folder, so that the file appears complete, by a rename.
 */
export async function writeArchive(file, schema, messages) {
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.tmp`);
  const encoder = new avro.streams.BlockEncoder(schema, { codec: "deflate" });
  const written = pipeline(encoder, createWriteStream(temporary));
  for (const { data, attributes } of messages) {
    encoder.write({
      subscription_name: "",
      message_id: "",
      publish_time: Date.now() * 1000, // microseconds
      ordering_key: "",
      attributes,
      data,
    });
  }
  encoder.end();
  await written;
  await rename(temporary, file);
}
