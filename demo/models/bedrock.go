package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// bedrock is Converse: POST /model/{model}/converse, or /converse-stream.
type bedrock struct{}

func (bedrock) name() string       { return "BedrockConverse" }
func (bedrock) streamType() string { return "application/vnd.amazon.eventstream" }

// authenticate takes a bearer token or a signature of version 4.
func (bedrock) authenticate(r *http.Request, body []byte, keys secrets) (string, *refusal) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", &refusal{status: http.StatusForbidden, kind: "MissingAuthenticationTokenException", message: "Missing Authentication Token"}
	}
	if strings.HasPrefix(header, "Bearer ") {
		key, refused := bearer(r, keys)
		if refused != nil {
			return "", &refusal{status: http.StatusForbidden, message: "The bearer token is not valid"}
		}
		return key, nil
	}
	key, err := signedBy(r, body, keys)
	if err != nil {
		return "", &refusal{status: http.StatusForbidden, kind: "InvalidSignatureException", message: err.Error()}
	}
	return key, nil
}

// signedBy verifies a signature of version 4, where the secret of its access
// key is known; else it only has to be whole.
func signedBy(r *http.Request, body []byte, keys secrets) (string, error) {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "", errors.New("header Authorization: want AWS4-HMAC-SHA256 or Bearer")
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	scope := strings.Split(parts["Credential"], "/")
	if len(scope) != 5 || scope[3] != "bedrock" || scope[4] != "aws4_request" || scope[2] == "" || parts["Signature"] == "" {
		return "", fmt.Errorf("credential %q: want KEY/DATE/REGION/bedrock/aws4_request and a signature", parts["Credential"])
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	if err != nil || !strings.HasPrefix(stamp, scope[1]) {
		return "", fmt.Errorf("header X-Amz-Date: %q does not belong to the date %s", stamp, scope[1])
	}
	if age := keys.now().Sub(at).Abs(); age > 5*time.Minute {
		return "", fmt.Errorf("signature expired: it is of %s", stamp)
	}
	signed := strings.Split(parts["SignedHeaders"], ";")
	for _, needed := range []string{"host", "x-amz-date"} {
		if !slices.Contains(signed, needed) {
			return "", fmt.Errorf("header %s has to be signed", needed)
		}
	}
	secret, known := keys.aws[scope[0]]
	if !known {
		if keys.any {
			return scope[0], nil
		}
		return "", errors.New("the security token included in the request is invalid")
	}
	text := strings.Join([]string{"AWS4-HMAC-SHA256", stamp, strings.Join(scope[1:], "/"), hash(canonical(r, body, signed))}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range append(scope[1:], text) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(parts["Signature"])) {
		return "", errors.New("the request signature we calculated does not match the signature you provided")
	}
	return scope[0], nil
}

func hash(text string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}

// canonical is the request as it is signed.
func canonical(r *http.Request, body []byte, signed []string) string {
	var headers strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	// The path is encoded once as it is sent, and once more.
	segments := strings.Split(r.URL.EscapedPath(), "/")
	for i, segment := range segments {
		segments[i] = awsEscaped(segment)
	}
	query := strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20")
	return strings.Join([]string{r.Method, strings.Join(segments, "/"), query, headers.String(), strings.Join(signed, ";"), hash(string(body))}, "\n")
}

func awsEscaped(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

func (bedrock) read(r *http.Request, body []byte) (question, *refusal) {
	var q question
	if refused := isJSON(r); refused != nil {
		return q, refused
	}
	q.model = r.PathValue("model")
	q.stream = strings.HasSuffix(r.URL.Path, "/converse-stream")
	s := &strict{}
	top := s.object("", body, "messages!", "system", "inferenceConfig", "toolConfig", "outputConfig", "additionalModelRequestFields",
		"additionalModelResponseFieldPaths", "guardrailConfig", "performanceConfig", "requestMetadata", "promptVariables", "serviceTier")
	q.system = bedrockText(s, "system", top["system"], &q)
	messages := s.list("messages", top["messages"])
	if len(messages) == 0 {
		s.fail("messages", "at least one message is required")
	}
	for i, raw := range messages {
		path := fmt.Sprintf("messages.%d", i)
		message := s.object(path, raw, "role!", "content!")
		role := s.oneOf(path+".role", message["role"], "user", "assistant")
		if i == 0 && s.err == nil && role != "user" {
			s.fail(path, "A conversation must start with a user message")
		}
		if text := bedrockText(s, path+".content", message["content"], &q); role == "user" {
			q.user = joined(q.user, text)
		}
	}
	if raw := top["inferenceConfig"]; raw != nil {
		config := s.object("inferenceConfig", raw, "maxTokens", "temperature", "topP", "stopSequences")
		if raw := config["maxTokens"]; raw != nil {
			if q.maxTokens = s.number("inferenceConfig.maxTokens", raw); s.err == nil && q.maxTokens < 1 {
				s.fail("inferenceConfig.maxTokens", "must be at least 1")
			}
		}
	}
	if raw := top["outputConfig"]; raw != nil {
		config := s.object("outputConfig", raw, "textFormat!")
		format := s.object("outputConfig.textFormat", config["textFormat"], "type!", "structure!")
		s.oneOf("outputConfig.textFormat.type", format["type"], "json_schema")
		structure := s.object("outputConfig.textFormat.structure", format["structure"], "jsonSchema!")
		const path = "outputConfig.textFormat.structure.jsonSchema"
		fields := s.object(path, structure["jsonSchema"], "schema!", "name", "description")
		// Not an object like everywhere else: text that is JSON.
		q.schema = json.RawMessage(s.text(path+".schema", fields["schema"]))
		s.supported(path+".schema", q.schema, bedrockKeywords)
	}
	if raw := top["toolConfig"]; raw != nil {
		config := s.object("toolConfig", raw, "tools!", "toolChoice")
		tools := map[string]json.RawMessage{}
		for i, raw := range s.list("toolConfig.tools", config["tools"]) {
			path := fmt.Sprintf("toolConfig.tools.%d", i)
			tool := s.object(path, raw, "toolSpec", "cachePoint")
			if tool["toolSpec"] == nil {
				continue
			}
			spec := s.object(path+".toolSpec", tool["toolSpec"], "name!", "inputSchema!", "description", "strict")
			name := s.toolName(path+".toolSpec.name", spec["name"])
			input := s.object(path+".toolSpec.inputSchema", spec["inputSchema"], "json!")
			if s.flag(path+".toolSpec.strict", spec["strict"]) {
				s.supported(path+".toolSpec.inputSchema.json", input["json"], bedrockKeywords)
			}
			tools[name] = input["json"]
		}
		if raw := config["toolChoice"]; raw != nil {
			choice := s.object("toolConfig.toolChoice", raw, "auto", "any", "tool")
			switch {
			case s.err == nil && len(choice) != 1:
				s.fail("toolConfig.toolChoice", "exactly one member is required")
			case choice["tool"] != nil:
				q.tool = s.text("toolConfig.toolChoice.tool.name", s.object("toolConfig.toolChoice.tool", choice["tool"], "name!")["name"])
				s.chosen("toolConfig.toolChoice.tool.name", &q, tools)
			case choice["any"] != nil:
				s.only("toolConfig.toolChoice", &q, tools)
			}
		}
	}
	if s.err != nil {
		return q, badRequest(s.err)
	}
	return q, nil
}

func bedrockText(s *strict, path string, raw json.RawMessage, q *question) string {
	var all string
	for i, block := range s.list(path, raw) {
		path := fmt.Sprintf("%s.%d", path, i)
		fields := s.object(path, block, "text", "cachePoint", "guardContent", "toolUse", "toolResult")
		if s.err == nil && len(fields) != 1 {
			s.fail(path, "exactly one member is required")
		}
		all = joined(all, s.text(path+".text", fields["text"]))
		q.cached = q.cached || fields["cachePoint"] != nil
	}
	return all
}

func (bedrock) head(h http.Header, _ int, id string) {
	h.Set("X-Amzn-Requestid", requestUUID(id))
}

// requestUUID looks like AWS's ids.
func requestUUID(id string) string {
	sum := hash(id)
	return strings.Join([]string{sum[:8], sum[8:12], sum[12:16], sum[16:20], sum[20:32]}, "-")
}

func (bedrock) stopReason(q question, a reply) string {
	switch {
	case a.stop == stopLength:
		return "max_tokens"
	case a.stop == stopFiltered:
		return "guardrail_intervened"
	case a.stop == stopRefusal:
		return "content_filtered"
	case q.tool != "":
		return "tool_use"
	default:
		return "end_turn"
	}
}

func (bedrock) usage(a reply) object {
	u := a.usage
	return object{
		"inputTokens": u.Input, "outputTokens": u.Output, "totalTokens": u.Input + u.Output + u.CacheRead + u.CacheWrite,
		"cacheReadInputTokens": u.CacheRead, "cacheWriteInputTokens": u.CacheWrite,
	}
}

func (w bedrock) whole(q question, a reply) []byte {
	content := []any{}
	switch {
	case a.stop == stopRefusal:
	case a.stop == stopFiltered:
		content = append(content, object{"text": refusedText})
	case q.tool != "" && json.Valid([]byte(a.text)):
		content = append(content, object{"toolUse": object{"toolUseId": "tooluse_" + a.id, "name": q.tool, "input": json.RawMessage(a.text)}})
	case q.tool != "":
		content = append(content, object{"toolUse": object{"toolUseId": "tooluse_" + a.id, "name": q.tool, "input": object{}}})
	default:
		content = append(content, object{"text": a.text})
	}
	return encode(object{
		"output":     object{"message": object{"role": "assistant", "content": content}},
		"stopReason": w.stopReason(q, a), "usage": w.usage(a), "metrics": object{"latencyMs": a.millis},
	})
}

func (w bedrock) events(q question, a reply) [][]byte {
	all := [][]byte{frame("messageStart", object{"p": "abcdefgh", "role": "assistant"})}
	text := a.text
	if a.stop == stopFiltered {
		text = refusedText
	}
	if a.stop != stopRefusal {
		tool := q.tool != "" && a.stop != stopFiltered
		if tool { // for text there is no start
			all = append(all, frame("contentBlockStart", object{"contentBlockIndex": 0, "p": "abc",
				"start": object{"toolUse": object{"toolUseId": "tooluse_" + a.id, "name": q.tool}}}))
		}
		for _, piece := range pieces(text) {
			delta := object{"text": piece}
			if tool {
				delta = object{"toolUse": object{"input": piece}}
			}
			all = append(all, frame("contentBlockDelta", object{"contentBlockIndex": 0, "delta": delta, "p": "abcdef"}))
		}
		all = append(all, frame("contentBlockStop", object{"contentBlockIndex": 0, "p": "abcd"}))
	}
	return append(all,
		frame("messageStop", object{"p": "ab", "stopReason": w.stopReason(q, a)}),
		frame("metadata", object{"metrics": object{"latencyMs": a.millis}, "p": "abcde", "usage": w.usage(a)}))
}

var bedrockKinds = map[int]string{
	400: "ValidationException", 403: "AccessDeniedException", 404: "ResourceNotFoundException", 408: "ModelTimeoutException",
	424: "ModelErrorException", 429: "ThrottlingException", 503: "ServiceUnavailableException",
}

func (bedrock) kind(refused refusal) string {
	kind := refused.kind
	if kind == "" {
		kind = bedrockKinds[refused.status]
	}
	switch {
	case kind != "":
		return kind
	case refused.status >= 500:
		return "InternalServerException"
	default:
		return "ValidationException"
	}
}

func (w bedrock) failure(h http.Header, refused refusal, _ string) []byte {
	kind := w.kind(refused)
	h.Set("X-Amzn-Errortype", kind+":http://internal.amazon.com/coral/com.amazon.bedrock/")
	body := object{"message": refused.message}
	if kind == "ModelErrorException" {
		body["originalStatusCode"], body["resourceName"] = 500, "arn:aws:bedrock:us-east-1::foundation-model/scripted"
	}
	return encode(body)
}

func (w bedrock) failureEvent(refused refusal) []byte {
	kind := w.kind(refused)
	return frameOf(map[string]string{":message-type": "exception", ":exception-type": strings.ToLower(kind[:1]) + kind[1:], ":content-type": "application/json"},
		encode(object{"message": refused.message}))
}

func frame(name string, v any) []byte {
	return frameOf(map[string]string{":message-type": "event", ":event-type": name, ":content-type": "application/json"}, encode(v))
}

// frameOf is one message of an AWS event stream: lengths and their checksum,
// headers, payload, and a checksum of all.
func frameOf(headers map[string]string, payload []byte) []byte {
	var heads bytes.Buffer
	for _, name := range []string{":event-type", ":exception-type", ":content-type", ":message-type"} {
		value, there := headers[name]
		if !there {
			continue
		}
		heads.WriteByte(byte(len(name)))
		heads.WriteString(name)
		heads.WriteByte(7) // a string
		heads.Write(binary.BigEndian.AppendUint16(nil, uint16(len(value))))
		heads.WriteString(value)
	}
	const around = 4 + 4 + 4 + 4
	out := binary.BigEndian.AppendUint32(nil, uint32(around+heads.Len()+len(payload)))
	out = binary.BigEndian.AppendUint32(out, uint32(heads.Len()))
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out))
	out = append(out, heads.Bytes()...)
	out = append(out, payload...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out))
}
