package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/hamba/avro/v2/ocf"
)

// archived is the record PubsubMessage of archive.avsc.
type archived struct {
	SubscriptionName string            `avro:"subscription_name"`
	MessageID        string            `avro:"message_id"`
	PublishTime      time.Time         `avro:"publish_time"`
	OrderingKey      string            `avro:"ordering_key"`
	Attributes       map[string]string `avro:"attributes"`
	Data             []byte            `avro:"data"`
}

// writeArchive writes messages to a file for `weighbridge run`.
//
// A follower may be looking at the folder, so that the file appears complete, by a rename.
func writeArchive(path, schema string, messages []Message) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	file, err := os.Create(temporary)
	if err != nil {
		return err
	}
	defer file.Close()
	encoder, err := ocf.NewEncoder(schema, file, ocf.WithCodec(ocf.Deflate))
	if err != nil {
		return err
	}
	for _, message := range messages {
		record := archived{
			PublishTime: time.Now().UTC(),
			Attributes:  message.Attributes,
			Data:        message.Data,
		}
		if err := encoder.Encode(record); err != nil {
			return err
		}
	}
	if err := encoder.Close(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
