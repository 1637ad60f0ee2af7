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
	Error   json.RawMessage `json:"error"`
}

// rpcError is why a worker has no result.
type rpcError struct {
	Code    *int64          `json:"code"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"`
}

// isAnswer tells an answer from a notification. One that repeats the request's
// method is an answer all the same.
func (m *message) isAnswer() bool {
	return m.Method == "" || m.ID != nil && (m.Result != nil || m.Error != nil)
}

// methodTrigger is the notification that asks for a run.
const methodTrigger = "trigger"

// parseMessage reads a line.
func parseMessage(line []byte) (message, error) {
	var m message
	err := json.Unmarshal(line, &m)
	if err == nil && m.Version != "2.0" && (m.Result != nil || m.Error != nil || m.Method != "") {
		return m, fmt.Errorf(`the worker printed a message without "jsonrpc":"2.0": %q`, shortened(string(line), maxShownMessage))
	}
	if err != nil || m.Version != "2.0" || m.ID == nil && m.Method == "" {
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

// outcome is what the answer makes of a call. It also returns what is wrong with
// the answer, if it breaks the protocol.
func (m *message) outcome(call Call) (done outcome, broken error) {
	if m.Error != nil && string(m.Error) != "null" {
		return outcome{fault: &workerFault{Error: m.reported(call)}}, nil
	}
	if m.Result == nil {
		broken = fmt.Errorf("the worker answered the id %s with neither a result nor an error", m.ID)
		return outcome{fault: &workerFault{Error: call.fault(KindAnswer, broken, "%v", broken)}}, broken
	}
	// Before it is decoded, since many are answered at once.
	if err := call.allowance.take(len(m.Result)); err != nil {
		return outcome{fault: &workerFault{Error: call.fault(KindOutput, err, "%v", err)}}, nil
	}
	output, err := m.output()
	if err != nil {
		return outcome{fault: &workerFault{Error: call.fault(KindAnswer, err, "reading the result: %v", err)}}, nil
	}
	return outcome{output: output}, nil
}

// reported is the error that the answer tells of.
func (m *message) reported(call Call) *Error {
	var told rpcError
	if err := json.Unmarshal(m.Error, &told); err != nil || told.Code == nil {
		return call.fault(KindReported, nil, "error %s, which is no object with a whole number `code` and a text `message`",
			shortened(string(m.Error), maxCause))
	}
	fault := call.fault(KindReported, nil, "error %d: %s", *told.Code, shortened(told.Message, maxCause))
	fault.Stderr = shortened(string(told.Data), maxTail)
	return fault
}

// output is what the result says in place of what a program would have printed:
// text as it is, any other JSON as JSON, and null as nothing.
func (m *message) output() ([]byte, error) {
	switch {
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
