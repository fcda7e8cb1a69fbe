// Publishes calls of a model, read from standard input, in each way that Weighbridge knows.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"github.com/hamba/avro/v2"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run() error {
	model := flag.String("model", "", "the model's id")
	topic := flag.String("topic", "", "publish to projects/P/topics/T")
	archive := flag.String("archive", "", "write this file instead")
	schemas := flag.String("schemas", "../../../handlers/weighbridge", "folder of the *.avsc files")
	flag.Parse()
	calls, err := readCalls(os.Stdin)
	if err != nil {
		return err
	}
	if *model == "" || len(calls) == 0 || (*topic == "") == (*archive == "") {
		return errors.New("name -model and one of -topic and -archive; calls come on standard input")
	}
	messages, err := pack(*model, *schemas, calls)
	if err != nil {
		return err
	}
	if *archive != "" {
		schema, err := os.ReadFile(filepath.Join(*schemas, "archive.avsc"))
		if err != nil {
			return err
		}
		return writeArchive(*archive, string(schema), messages)
	}
	return publish(context.Background(), *topic, messages)
}

// pack makes a plain message of the first call, an actual for it, and one message of all the rest.
func pack(model, schemas string, calls []Call) ([]Message, error) {
	schema, err := avro.ParseFiles(filepath.Join(schemas, "envelope.avsc"))
	if err != nil {
		return nil, err
	}
	id := publisherID()
	plain, err := plainPrediction(model, id+"-plain", calls[0])
	if err != nil {
		return nil, err
	}
	actual, err := plainActual(model, id+"-actual", map[string]string{"label": "yes"}, time.Now())
	if err != nil {
		return nil, err
	}
	packer := packer{schema: schema, publisherID: id}
	packed, err := packer.packedPredictions(model, calls[1:])
	return []Message{plain, actual, packed}, err
}

// publish waits until Pub/Sub has all messages. It honours PUBSUB_EMULATOR_HOST.
func publish(ctx context.Context, topic string, messages []Message) error {
	project := strings.Split(topic+"/", "/")[1]
	client, err := pubsub.NewClient(ctx, project)
	if err != nil {
		return err
	}
	defer client.Close()
	publisher := client.Publisher(topic)
	defer publisher.Stop()
	var results []*pubsub.PublishResult
	for _, message := range messages {
		results = append(results, publisher.Publish(ctx, &pubsub.Message{
			Data: message.Data, Attributes: message.Attributes,
		}))
	}
	for _, result := range results {
		if _, err := result.Get(ctx); err != nil {
			return err
		}
	}
	return nil
}

// publisherID is new in each process, so that no two envelopes have the same id.
func publisherID() string {
	random := make([]byte, 8)
	rand.Read(random)
	return hex.EncodeToString(random)
}
