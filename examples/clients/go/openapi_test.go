package jobqueue

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// What the client sends and reads is what the server's OpenAPI document says.

type schema struct {
	Ref        string            `json:"$ref"`
	AnyOf      []schema          `json:"anyOf"`
	Type       string            `json:"type"`
	Enum       []string          `json:"enum"`
	Items      *schema           `json:"items"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
}

type media map[string]struct {
	Schema schema `json:"schema"`
}

type document struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name   string `json:"name"`
			In     string `json:"in"`
			Schema schema `json:"schema"`
		} `json:"parameters"`
		RequestBody struct {
			Content media `json:"content"`
		} `json:"requestBody"`
		Responses map[string]struct {
			Content media `json:"content"`
		} `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

func fetchDocument(t *testing.T) *document {
	t.Helper()
	response, err := http.Get(aClient(t).URL + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	found := new(document)
	if err := json.NewDecoder(response.Body).Decode(found); err != nil {
		t.Fatal(err)
	}
	return found
}

func (d *document) resolve(s schema) schema {
	if s.Ref == "" {
		return s
	}
	return d.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
}

// kinds is what a schema allows; an object is the schema that it is.
func (d *document) kinds(s schema) map[string]schema {
	s = d.resolve(s)
	found := map[string]schema{}
	for _, each := range s.AnyOf {
		for kind, inner := range d.kinds(each) {
			found[kind] = inner
		}
	}
	switch {
	case len(s.AnyOf) > 0:
	case len(s.Enum) > 0:
		found["string"] = s
	case s.Type == "array":
		for kind := range d.kinds(*s.Items) {
			found[kind+"[]"] = s
		}
	case s.Type == "":
		found["any"] = s
	default:
		found[s.Type] = s
	}
	return found
}

var raw = reflect.TypeOf(json.RawMessage{})

// kindOf is what a Go type is in JSON, and whether it may be null.
func kindOf(t reflect.Type) (kind string, null bool) {
	switch {
	case t == raw || t.Kind() == reflect.Interface:
		return "any", true
	case t.Kind() == reflect.Pointer:
		kind, _ = kindOf(t.Elem())
		return kind, true
	case t.Kind() == reflect.Slice:
		kind, _ = kindOf(t.Elem())
		return kind + "[]", false
	}
	return map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Float64: "number", reflect.Struct: "object",
	}[t.Kind()], false
}

// misfits are the reasons why a struct does not fit a schema. sent: the client writes it; else it reads it.
func (d *document) misfits(t reflect.Type, s schema, sent bool) (faults []string) {
	s = d.resolve(s)
	required := map[string]bool{}
	for _, name := range s.Required {
		required[name] = true
	}
	for i := 0; i < t.NumField(); i++ {
		field := t.Field(i)
		name, rest, _ := strings.Cut(field.Tag.Get("json"), ",")
		optional := strings.Contains(rest, "omitempty")
		where := t.Name() + "." + name
		property, there := s.Properties[name]
		if !there {
			faults = append(faults, where+" is not in the document")
			continue
		}
		allowed := d.kinds(property)
		kind, null := kindOf(field.Type)
		inner, fits := allowed[kind]
		_, any := allowed["any"]
		_, nullable := allowed["null"]
		if !fits && !any || len(allowed) > 1 && !sent && !any && !nullable {
			faults = append(faults, fmt.Sprintf("%s is %s, which the document does not say", where, kind))
		}
		if !sent && nullable && !null && !optional {
			faults = append(faults, where+" may be null")
		}
		if !sent && !optional && !required[name] {
			faults = append(faults, where+" may be missing")
		}
		if sent && optional && required[name] {
			faults = append(faults, where+" must not be left out")
		}
		if element := field.Type; kind == "object" && fits {
			if element.Kind() == reflect.Pointer {
				element = element.Elem()
			}
			faults = append(faults, d.misfits(element, inner, sent)...)
		}
		delete(required, name)
	}
	if sent {
		for name := range required {
			faults = append(faults, t.Name()+" leaves "+name+" out")
		}
	}
	return faults
}

// Every path, method, parameter, field and type is in the document.
func TestOperationsAreTheDocuments(t *testing.T) {
	api := fetchDocument(t)
	for _, op := range operations {
		found, there := api.Paths[op.path][strings.ToLower(op.method)]
		if !there {
			t.Errorf("%s %s is not in the document", op.method, op.path)
			continue
		}
		parameters := map[string]string{}
		for _, each := range found.Parameters {
			parameters[each.In+" "+each.Name] = each.Schema.Type
		}
		if op.query != "" && parameters["query "+op.query] != "number" {
			t.Errorf("%s has no parameter %s that is a number", op.path, op.query)
		}
		if strings.Contains(op.path, "{id}") && parameters["path id"] != "string" {
			t.Errorf("%s has no parameter id", op.path)
		}
		if _, empty := found.Responses["204"]; empty != op.empty {
			t.Errorf("%s: whether it may be answered 204 is %v", op.path, empty)
		}
		var faults []string
		if op.sends != nil {
			faults = api.misfits(op.sends, found.RequestBody.Content["application/json"].Schema, true)
		}
		faults = append(faults, api.misfits(op.answers, found.Responses["200"].Content["application/json"].Schema, false)...)
		for _, fault := range faults {
			t.Errorf("%s: %s", op.path, fault)
		}
	}
}

// An error has these fields and types, and every code that the client names is one of the API's.
func TestErrorsAreTheDocuments(t *testing.T) {
	api := fetchDocument(t)
	for _, fault := range api.misfits(reflect.TypeOf(problem{}), api.Components.Schemas["Problem"], false) {
		t.Error(fault)
	}
	known := strings.Join(api.Components.Schemas["Problem"].Properties["code"].Enum, " ")
	for _, code := range append(append([]string{}, passingCodes...), overCodes...) {
		if !strings.Contains(" "+known+" ", " "+code+" ") {
			t.Errorf("no error has the code %s", code)
		}
	}
}

// A field of another type, one that is missing and one that nobody knows are found.
func TestMisfitsAreFound(t *testing.T) {
	api := new(document)
	text := `{"properties": {"token": {"type": "integer"}}, "required": ["token"]}`
	var lease schema
	if err := json.Unmarshal([]byte(text), &lease); err != nil {
		t.Fatal(err)
	}
	found := strings.Join(api.misfits(reflect.TypeOf(Lease{}), lease, false), "; ")
	if found != "Lease.token is string, which the document does not say; Lease.expires_at is not in the document" {
		t.Error(found)
	}
	text = `{"properties": {"lease": {"type": "string"}, "delay": {"type": "number"}, "why": {}}, "required": ["lease", "why"]}`
	var release schema
	if err := json.Unmarshal([]byte(text), &release); err != nil {
		t.Fatal(err)
	}
	if found := api.misfits(reflect.TypeOf(ReleaseBody{}), release, true); len(found) != 1 || found[0] != "ReleaseBody leaves why out" {
		t.Error(found)
	}
}
