package main

import (
	"encoding/json"
	"strconv"
	"time"
)

// plainPrediction is one call as a plain JSON message: the easy way in.
//
// The id is your own: a message that is published twice is then one envelope.
func plainPrediction(modelID, envelopeID string, call Call) (Message, error) {
	data, err := json.Marshal(struct {
		Request  json.RawMessage `json:"request"`
		Response json.RawMessage `json:"response"`
		Context  json.RawMessage `json:"context,omitempty"`
	}{call.Request, call.Response, call.Context})
	return Message{data, map[string]string{
		"model_id":    modelID,
		"envelope_id": envelopeID,
		"event_time":  call.EventTime.Format(time.RFC3339Nano),
		"status":      strconv.Itoa(int(call.Status)),
	}}, err
}

// plainActual is what turned out to be true, as a plain JSON message.
func plainActual(modelID, envelopeID string, actual any, eventTime time.Time) (Message, error) {
	data, err := json.Marshal(map[string]any{"actual": actual})
	return Message{data, map[string]string{
		"model_id":    modelID,
		"envelope_id": envelopeID,
		"event_time":  eventTime.Format(time.RFC3339Nano),
	}}, err
}
