package main

import (
	"fmt"
	"strconv"

	"github.com/hamba/avro/v2"
	"github.com/klauspost/compress/zstd"
)

// batch is the record EnvelopeBatch of envelope.avsc: one array for each field of the calls.
type batch struct {
	BatchID          string `avro:"batch_id"`
	PublisherID      string `avro:"publisher_id"`
	ModelID          string `avro:"model_id"`
	ModelVersion     string `avro:"model_version"`
	Kind             string `avro:"kind"`
	FirstSequence    int64  `avro:"first_sequence"`
	RequestType      string `avro:"request_type"`
	RequestEncoding  string `avro:"request_encoding"`
	ResponseType     string `avro:"response_type"`
	ResponseEncoding string `avro:"response_encoding"`
	ContextType      string `avro:"context_type"`
	ContextEncoding  string `avro:"context_encoding"`

	SequenceOffset []int64   `avro:"sequence_offset"`
	EventTime      []int64   `avro:"event_time"`
	Status         []*int32  `avro:"status"`
	LatencyUS      []*int64  `avro:"latency_us"`
	Headers        [][]byte  `avro:"headers"`
	Attributes     [][]byte  `avro:"attributes"`
	Request        []*[]byte `avro:"request"`
	Response       []*[]byte `avro:"response"`
	Context        []*[]byte `avro:"context"`
	Cut            []int32   `avro:"cut"`
}

// packer packs the calls of one process. Their ids are <publisherID>-<sequence>.
type packer struct {
	schema      avro.Schema
	publisherID string
	sequence    int64
}

// packedPredictions is many calls of one model as one message: a fraction of the cost.
func (p *packer) packedPredictions(modelID string, calls []Call) (Message, error) {
	const mediaType = "application/json"
	b := batch{
		BatchID:     fmt.Sprintf("%s-%d", p.publisherID, p.sequence),
		PublisherID: p.publisherID, ModelID: modelID, Kind: "prediction",
		FirstSequence: p.sequence,
		RequestType:   mediaType, ResponseType: mediaType, ContextType: mediaType,
	}
	for offset, call := range calls {
		b.SequenceOffset = append(b.SequenceOffset, int64(offset))
		b.EventTime = append(b.EventTime, call.EventTime.UnixMicro())
		b.Status = append(b.Status, &call.Status)
		b.LatencyUS = append(b.LatencyUS, nil)
		b.Headers = append(b.Headers, []byte("{}"))
		b.Attributes = append(b.Attributes, []byte("{}"))
		b.Request = append(b.Request, orNull(call.Request))
		b.Response = append(b.Response, orNull(call.Response))
		b.Context = append(b.Context, orNull(call.Context))
		b.Cut = append(b.Cut, 0)
	}
	p.sequence += int64(len(calls))
	raw, err := avro.Marshal(p.schema, b)
	if err != nil {
		return Message{}, err
	}
	compressor, err := zstd.NewWriter(nil)
	if err != nil {
		return Message{}, err
	}
	return Message{compressor.EncodeAll(raw, nil), map[string]string{
		"content":        "weighbridge.batch.v1",
		"encoding":       "avro+zstd",
		"model_id":       modelID,
		"batch_id":       b.BatchID,
		"publisher_id":   b.PublisherID,
		"first_sequence": strconv.FormatInt(b.FirstSequence, 10),
		"envelope_count": strconv.Itoa(len(calls)),
	}}, nil
}

func orNull(body []byte) *[]byte {
	if body == nil {
		return nil
	}
	return &body
}
