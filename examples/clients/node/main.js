// Publishes calls of a model, read from standard input, in each way that Weighbridge knows.
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import { PubSub } from "@google-cloud/pubsub";
import { writeArchive } from "./archive.js";
import { Packer } from "./packed.js";
import { plainActual, plainPrediction } from "./plain.js";

const { values: options } = parseArgs({
  options: {
    model: { type: "string" },
    topic: { type: "string" }, // projects/P/topics/T
    archive: { type: "string" }, // write this file instead
    schemas: {
      type: "string",
      default: path.join(import.meta.dirname, "../../../handlers/weighbridge"),
    },
  },
});
const lines = (await text(process.stdin)).split("\n").filter(Boolean);
const calls = lines.map((line) => JSON.parse(line));
if (!options.model || !calls.length || !options.topic === !options.archive) {
  console.error("name --model and one of --topic and --archive; calls come on standard input");
  process.exit(2);
}

const schema = async (name) => JSON.parse(await readFile(path.join(options.schemas, name), "utf8"));
const id = randomBytes(8).toString("hex"); // new in each process: no two envelopes share an id
const packer = new Packer(await schema("envelope.avsc"), id);
const messages = [
  plainPrediction(options.model, `${id}-plain`, calls[0]),
  plainActual(options.model, `${id}-actual`, { label: "yes" }, new Date()),
  packer.packedPredictions(options.model, calls.slice(1)),
];

if (options.archive) {
  await writeArchive(options.archive, await schema("archive.avsc"), messages);
} else {
  // It honours PUBSUB_EMULATOR_HOST.
  const client = new PubSub({ projectId: options.topic.split("/")[1] });
  const topic = client.topic(options.topic);
  await Promise.all(messages.map((message) => topic.publishMessage(message)));
  await client.close();
}
