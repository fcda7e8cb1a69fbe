/**
 * One call as a plain JSON message: the easy way in.
 * The id is your own: a message that is published twice is then one envelope.
 */
export function plainPrediction(modelId, envelopeId, call) {
  const { request, response, context } = call;
  return {
    data: Buffer.from(JSON.stringify({ request, response, context })), // undefined is left out
    attributes: {
      model_id: modelId,
      envelope_id: envelopeId,
      event_time: call.event_time,
      status: String(call.status),
    },
  };
}

/** What turned out to be true, as a plain JSON message. */
export function plainActual(modelId, envelopeId, actual, eventTime) {
  return {
    data: Buffer.from(JSON.stringify({ actual })),
    attributes: {
      model_id: modelId,
      envelope_id: envelopeId,
      event_time: eventTime.toISOString(),
    },
  };
}
