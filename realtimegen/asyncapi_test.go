// The document that AsyncAPI writes. e2e validates the one of the library's events.

package realtimegen_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/realtimegen"
)

func TestAsyncAPI_OfAHost(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, realtimegen.AsyncAPI(&b, lab))
	document := b.String()
	for _, want := range []string{
		"channels:\n  Lab:\n    address: /lab\n    messages:\n      itS:\n        name: \"it's\"\n",
		"        payload:\n          $ref: \"#/components/schemas/Ack\"\n",
		"      itS2:\n        name: \"it's\"\n        title: \"it's\"\n        payload:\n          type: array\n          items:\n            $ref: \"#/components/schemas/Place\"\n",
		"      labRaw:\n        name: \"lab:raw\"\n        title: \"lab:raw\"\n      labRawAck:\n",
		"          oneOf:\n            - type: object\n              properties:\n                ok:\n                  const: true\n                data:\n                  $ref: \"#/components/schemas/PagePlace\"\n              required:\n                - ok\n                - data\n",
		"  Root:\n    address: /\n    messages: {}\n",
		"  lab.labList:\n    action: receive\n    channel:\n      $ref: \"#/channels/Lab\"\n    summary: Lists.\n    description: \"May fail with internal.\"\n    messages:\n      - $ref: \"#/channels/Lab/messages/labList\"\n" +
			"    reply:\n      channel:\n        $ref: \"#/channels/Lab\"\n      messages:\n        - $ref: \"#/channels/Lab/messages/labListAck\"\n",
		"  lab2.nothing:\n    action: send\n",
		"      labWhereAck:\n        name: \"lab:where ack\"\n        title: \"the ack of lab:where\"\n        payload:\n          $ref: \"#/components/schemas/PagePlace\"\n        examples:\n          - payload: {\"items\": null}\n",
		"      - $ref: \"#/channels/Lab2/messages/labWhere\"\n    reply:\n      channel:\n        $ref: \"#/channels/Lab2\"\n      messages:\n        - $ref: \"#/channels/Lab2/messages/labWhereAck\"\n",
		"      labStillAck:\n        name: \"lab:still ack\"\n        title: \"the ack of lab:still\"\n        summary: \"No payload.\"\n",
		"        color:\n          description: \"null: none\"\n          oneOf:\n            - $ref: \"#/components/schemas/Color\"\n            - type: \"null\"\n",
		"        extra-data:\n          type:\n            - object\n            - \"null\"\n",
		"        raw: {}\n        at:\n          type: string\n          format: date-time\n",
		"    Color:\n      type: string\n      enum:\n        - red\n        - blue\n",
		"        next:\n          type: integer\n      required:\n        - items\n",
	} {
		require.Contains(t, document, want)
	}
}
