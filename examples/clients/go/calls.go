package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Call is one request to a model and its answer. Bodies stay the bytes that they are.
type Call struct {
	Request   json.RawMessage `json:"request"`
	Response  json.RawMessage `json:"response"`
	Context   json.RawMessage `json:"context,omitempty"`
	EventTime time.Time       `json:"event_time"`
	Status    int32           `json:"status"`
}

// Message is what Pub/Sub carries, and what an archive file holds.
type Message struct {
	Data       []byte
	Attributes map[string]string
}

// readCalls reads one call a line.
func readCalls(input io.Reader) ([]Call, error) {
	var calls []Call
	decoder := json.NewDecoder(input)
	for {
		var call Call
		switch err := decoder.Decode(&call); err {
		case nil:
			calls = append(calls, call)
		case io.EOF:
			return calls, nil
		default:
			return nil, fmt.Errorf("call %d: %w", len(calls)+1, err)
		}
	}
}
