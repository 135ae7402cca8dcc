//! HashiCorp's tfplugin6 and go-plugin messages, as generated code.
