// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxShownMessage is how much of an unusable message is shown, in bytes.
const maxShownMessage = 256

// message is what a worker may print, one a line: an answer, or a notification
// (JSON-RPC 2.0, sections 4 and 5).
type message struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    int64           `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	} `json:"error"`
}

// methodTrigger is the notification that asks for a run.
const methodTrigger = "trigger"

// parseMessage reads a line.
func parseMessage(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil || m.Version != "2.0" || m.ID == nil && m.Method == "" {
		return m, fmt.Errorf("the worker printed something that is no JSON-RPC message: %q; only messages may go to stdout, print to stderr",
			shortened(string(bytes.TrimSpace(line)), maxShownMessage))
	}
	return m, nil
}

// number is the answer's ID, if it is one that we may have given.
func (m *message) number() (int64, bool) {
	id, err := strconv.ParseInt(string(m.ID), 10, 64)
	return id, err == nil
}

// output is what the answer says in place of what a program would have printed:
// text as it is, any other JSON as JSON, and null as nothing.
func (m *message) output() ([]byte, error) {
	switch {
	case len(m.Result) == 0:
		return nil, fmt.Errorf("the worker answered the id %s with neither a result nor an error", m.ID)
	case string(m.Result) == "null":
		return nil, nil
	case m.Result[0] != '"':
		return bytes.Clone(m.Result), nil
	}
	var text string
	err := json.Unmarshal(m.Result, &text)
	return []byte(text), err
}

// reason is why a notification asks for a run, in one short line; empty when it
// does not say.
func (m *message) reason() string {
	var params struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(m.Params, &params) // without params, or with others, there is none
	return shortened(strings.Join(strings.Fields(params.Reason), " "), maxShownMessage)
}

// maxEnvelope is more than a request is longer than its payload, in bytes.
const maxEnvelope = 128

// encodeRequest is a request as a line.
func encodeRequest(id int64, call Call) []byte {
	line := append(make([]byte, 0, len(call.Payload)+maxEnvelope), `{"jsonrpc":"2.0","id":`...)
	line = append(append(append(strconv.AppendInt(line, id, 10), `,"method":"`...), call.Stage...), `","params":`...)
	return append(append(line, call.Payload...), "}\n"...)
}

// readLine reads the next line, or fails with errTooMuch when it is longer than
// limit. What it returns is good until the next call.
func readLine(from *bufio.Reader, limit int64) ([]byte, error) {
	line, err := from.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	var long []byte
	for errors.Is(err, bufio.ErrBufferFull) {
		if long = append(long, line...); int64(len(long)) > limit {
			return nil, errTooMuch
		}
		line, err = from.ReadSlice('\n')
	}
	return append(long, line...), err
}
