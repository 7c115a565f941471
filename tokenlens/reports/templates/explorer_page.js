startExplorer(document);
